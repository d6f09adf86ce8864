"""The measures of the bench of calibration: what they must say of errors that are known."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from bench import calibrated_pixels, reference_lookups, star_flat_uniformity
from bench.calibrated_pixels import (
    BANDS,
    SEEDS,
    PixelZeropoint,
    ccds_of,
    mean_zeropoint_mag,
    measure_pixels,
    pixel_rows,
    scale_parts_mmag,
)
from bench.measure_scores import Truth
from imaging.detector.ccds import NX, NY


def shown(seed=1, band="i", ccd=27, error=1.0, stated=1.0, scale=0.0, noise=0.1):
    return PixelZeropoint(seed, band, ccd, error, stated, error, stated, scale, noise, 100, 0, 0.15, 0.6)


def test_the_seeds_share_the_usual_ccds_of_the_focal_plane():
    parts = [set(ccds_of(seed)) for seed in SEEDS]
    assert set.union(*parts) == set(range(1, 63)) - {2, 31, 61}
    assert sum(map(len, parts)) == 59
    assert len(BANDS) * 59 >= 300  # zero points that the width of the pull was asked for


def test_the_true_zero_point_is_that_of_the_mean_transparency_over_the_area_and_not_over_the_stars():
    random = np.random.default_rng(1)
    n = 4000
    x, y = NX * np.sqrt(random.random(n)), random.uniform(0, NY, n)  # more stars where the clouds are thin
    extinction = 0.2 * (1 - x / NX)  # its mean transparency is 1.8 mmag above that of its mean
    mag, star = random.uniform(15, 22, n), np.ones(n, bool)
    truth = Truth(x, y, x, y, mag, 10 ** (0.4 * (31.7 - extinction - mag)), star, ~star)
    mean = (1 - 10**-0.08) / (0.08 * np.log(10.0))
    assert mean_zeropoint_mag(truth) == pytest.approx(31.7 + 2.5 * np.log10(mean), abs=5e-4)
    assert truth.zeropoint_mag() > mean_zeropoint_mag(truth) + 0.005


def test_the_scale_of_fluxes_is_told_apart_by_exposure_and_ccd():
    random = np.random.default_rng(2)
    items = []
    for seed in range(60):
        shared = random.normal(0.0, 0.5)
        for ccd in range(20):
            value = shared + random.normal(0.0, 0.8) + random.normal(0.0, 0.6)
            items.append(shown(seed, ccd=ccd, scale=value, noise=0.6))
    shared, own = scale_parts_mmag(items)
    assert shared == pytest.approx(0.5, rel=0.25)
    assert own == pytest.approx(0.8, rel=0.1)


def test_rows_say_whether_limits_are_met():
    random = np.random.default_rng(3)
    items = [shown(1 + k % 3, "g", k, error, 2.0) for k, error in enumerate(random.normal(0.0, 2.0, 900))]
    rows = {row.name: row for row in pixel_rows(items)}
    assert rows["from pixels, g: zero point of a CCD, rms"].ok
    pull = rows["from pixels: width of the pull (1.00 +- 0.05)"]
    assert (pull.ok, pull.n, pull.seeds) == (True, 900, (1, 2, 3))
    for factor in (0.8, 1.25):  # errors that are stated too small or too large
        wrong = pixel_rows([replace(item, stated_mmag=factor * item.stated_mmag) for item in items])
        assert not next(row for row in wrong if "pull" in row.name).ok
    biased = pixel_rows([replace(item, error_mmag=item.error_mmag + 2.5) for item in items])
    assert not next(row for row in biased if "bias" in row.name).ok


def test_exposures_that_were_measured_are_not_measured_again(tmp_path, monkeypatch):
    asked = []

    def process(work, seed, band, ccds):
        asked.append((seed, band))
        return [shown(seed, band, ccd) for ccd in ccds]

    monkeypatch.setattr(calibrated_pixels, "process_exposure", process)
    kept = [asdict(shown(2, "z", 30, error=7.0))]
    (tmp_path / "seed_2_z.json").write_text(json.dumps(kept))
    found = measure_pixels(tmp_path, say=lambda text: None)
    assert len(asked) == len(SEEDS) * len(BANDS) - 1
    assert [item.error_mmag for item in found if (item.seed, item.band) == (2, "z")] == [7.0]
    assert measure_pixels(tmp_path, say=lambda text: None) == found
    assert len(asked) == len(SEEDS) * len(BANDS) - 1


def test_lookups_in_a_thin_catalogue_are_right_on_ra_0_and_at_the_pole(tmp_path, monkeypatch):
    monkeypatch.setattr(reference_lookups, "SCIENCE_CCDS", (1, 28, 62))
    monkeypatch.setattr(reference_lookups, "CHECKED", 9)
    rows = {row.name: row for row in reference_lookups.lookup_rows(tmp_path, 5, 3, density_per_deg2=40.0)}
    assert rows["cones and polygons that hold exactly the right stars"].value == 1.0
    assert rows["stars of a lookup, median"].value > 1
    median = next(row for name, row in rows.items() if name.startswith("lookup of a CCD"))
    assert (median.n, median.limit) == (9, 0.05)


def test_a_star_flat_takes_the_response_out(monkeypatch):
    monkeypatch.setattr(star_flat_uniformity, "CCDS", (22, 28, 34))
    monkeypatch.setattr(star_flat_uniformity, "RADIUS_DEG", 0.9)
    truth = {ccd: star_flat_uniformity.true_excess(ccd) for ccd in (22, 28, 34)}
    truth = {ccd: excess + 0.05 * (ccd - 28) / 6 for ccd, excess in truth.items()}  # CCDs of other sensitivity
    seen = star_flat_uniformity.observe_dithered(3, 8, truth)
    left, _ = star_flat_uniformity.remaining(seen, truth)
    assert np.std(np.concatenate([excess.ravel() for excess in truth.values()])) > 0.035
    assert np.std(left) < 0.003

"""Real pixels: every same-band pair of nine Community Pipeline cut-outs."""

from pathlib import Path

import numpy as np
import pytest

from bench.real_epochs import (
    CONSTANT_STAR_MAG,
    COSMIC_RAYS,
    SIGNIFICANCE,
    VARIABLE,
    Epoch,
    gaia_stars,
    noise_significance_near,
    pairs,
    read_epochs,
    score_near,
    subtract_epochs,
)
from imaging.difference.engine import ImageDifference, UserImage, difference_images, summary
from imaging.foreign.mask_planes import COMMUNITY_PIPELINE_CODES, mask_of_codes
from imaging.io.calibrated import read_image
from imaging.schemas.difference import DetectionFlag

pytestmark = pytest.mark.real_data

Results = dict[tuple[str, str], tuple[Epoch, ImageDifference]]


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    return real_data / "decam_epochs"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return {(s.date, t.date): (s, subtract_epochs(s, t)) for s, t in pairs(read_epochs(folder))}


def test_all_pairs_subtract_with_the_right_noise(results):
    assert len(results) == 4 * 3 + 3 * 2 + 2
    for key, (_, result) in results.items():
        quality = result.searched.quality
        assert quality["difference_noise_width"] == pytest.approx(1.0, abs=0.03), key
        assert quality["noise_width_predicted"] == pytest.approx(1.0, abs=0.05), key
        assert abs(quality["difference_lag1"]) < 0.03, key


def test_kernel_sums_are_the_ratios_of_the_zero_points(results):
    for (search, template), (_, result) in results.items():
        known = 10 ** (-0.4 * (CONSTANT_STAR_MAG[search] - CONSTANT_STAR_MAG[template]))
        ratio = result.searched.quality["kernel_sum"] / known
        assert ratio == pytest.approx(1.0, abs=0.04), (search, template)


def test_the_variable_star_changes_as_known(results, folder):
    ra, dec, _ = gaia_stars(folder)[VARIABLE]
    for key, expected in SIGNIFICANCE.items():
        epoch, result = results[key]
        x, y = epoch.loaded.wcs.sky_to_pixel(ra, dec)
        score = score_near(result, float(x), float(y))
        assert np.sign(score) == np.sign(expected), key
        assert abs(score) > 5.0 and 0.5 < score / expected < 1.5, key
        noise = noise_significance_near(result, float(x), float(y))
        assert 0.7 < noise / expected < 1.5, key


def test_constant_stars_leave_nothing(results, folder):
    stars = gaia_stars(folder)
    checked = 0
    for key, (epoch, result) in results.items():
        ny, nx = epoch.loaded.science.shape
        for name, (ra, dec, _) in stars.items():
            x, y = (float(v) for v in epoch.loaded.wcs.sky_to_pixel(ra, dec))
            if name == VARIABLE or not (5 < x < nx - 5 and 5 < y < ny - 5):
                continue
            near_ray = any(np.hypot(x - a, y - b) < 15 for a, b in COSMIC_RAYS.values())
            if not near_ray:
                assert abs(score_near(result, x, y)) < 5.0, (key, name)
                checked += 1
    assert checked >= 30


def test_cosmic_rays_are_labelled(results):
    labelled = 0
    for (search, _), (_, result) in results.items():
        if search not in COSMIC_RAYS:
            continue
        x, y = COSMIC_RAYS[search]
        m = result.searched.detections.measured
        distance = np.hypot(m.x - x, m.y - y)
        if distance.size and distance.min() < 5:
            flags = result.searched.detections.flags[distance.argmin()]
            assert flags & (DetectionFlag.COSMIC_RAY | DetectionFlag.MASKED | DetectionFlag.NEGATIVE), search
            labelled += bool(flags & DetectionFlag.COSMIC_RAY)
    assert labelled >= 3


def test_only_the_variable_star_passes_the_cuts(results, folder):
    ra, dec, _ = gaia_stars(folder)[VARIABLE]
    others = []
    for key, (epoch, result) in results.items():
        x, y = epoch.loaded.wcs.sky_to_pixel(ra, dec)
        detections = result.searched.detections
        m = detections.measured
        away = np.hypot(m.x - float(x), m.y - float(y)) > 5
        others += [
            (key, round(a), round(b))
            for a, b in zip(m.x[detections.passed & away], m.y[detections.passed & away], strict=True)
        ]
    assert len(others) <= 2, others


def test_summary_can_be_written_as_json(results):
    import json

    _, result = results["2018-02-12", "2015-04-11"]
    document = json.loads(json.dumps(summary(result)))
    assert {"kernel_sum", "difference_noise_width", "difference_lag1", "kernel_stamps"} <= set(document["quality"])
    assert document["detections"][0]["flags"] is not None
    assert len(result.stamps) == len(document["detections"])


def test_without_zero_points_the_stars_tie_the_images(folder):
    epochs = {e.date: e for e in read_epochs(folder)}
    result = difference_images(UserImage(epochs["2018-02-12"].loaded), [UserImage(epochs["2015-04-11"].loaded)])
    assert not result.zeropoint_known
    assert result.searched.quality["kernel_sum"] == pytest.approx(1.0, abs=0.04)


def test_mask_codes_of_the_triple_become_bits(folder):
    codes = np.array([[0, 1, 3], [4, 5, 7]])
    mask = mask_of_codes(codes)
    assert mask[0, 0] == 0
    assert [int(v) for v in mask.ravel()[1:]] == [int(COMMUNITY_PIPELINE_CODES[c]) for c in (1, 3, 4, 5, 7)]
    path = next(folder.glob("images/**/*170316*_ooi_*.fits"))
    loaded = read_image(path)
    assert loaded.weight is not None and (loaded.mask != 0).sum() == 177
    assert loaded.gain == pytest.approx(3.877, abs=0.001)

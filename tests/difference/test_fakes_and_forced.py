"""Fakes, efficiency, forced photometry, scores, stamps, tables, files."""

import io

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.image import imread

from bench.difference_runs import labelled_features
from imaging.difference.detect import BrightStars, detect
from imaging.difference.efficiency import fit_curve, measure_efficiency, wilson_interval
from imaging.difference.engine import ImageDifference
from imaging.difference.fakes import add_sources, inject_fakes
from imaging.difference.forced import forced_table, measure_forced
from imaging.difference.score import FEATURES, features_of, score_detections, shipped_model
from imaging.difference.settings import DetectionSettings, FakeSettings
from imaging.difference.stamps import cut_triplet
from imaging.difference.train import confusion, model_content, train_score
from imaging.io.differences import read_difference, write_image_difference
from imaging.io.images import read_planes
from imaging.io.stamps import read_stamps
from imaging.pictures.stamps import triplet_picture
from imaging.schemas.difference import DETECTIONS, FAKES, DetectionFlag
from imaging.tables import column

DETECTION = DetectionSettings()


def test_added_sources_are_what_injecting_before_the_subtraction_gives(searched, truth, template):
    """Add a noiseless source to the search image, subtract again, and compare with adding it to the difference."""
    from dataclasses import replace

    from imaging.difference.subtract import subtract

    difference = searched.difference
    x, y, flux = 401.3, 455.7, 4e4
    pixels = truth.search.image.pixels
    science = pixels.science.copy()
    stamp = truth.search.image.psf.stamp(x, y, 20)
    science[456 - 20 : 456 + 21, 401 - 20 : 401 + 21] += (flux * stamp).astype(np.float32)
    again = subtract(replace(truth.search.image, pixels=replace(pixels, science=science)), template)
    direct = again.image - difference.image

    class Silent(np.random.Generator):
        def standard_normal(self, *args, **kwargs):
            return np.zeros(args[0])

    copy = add_sources(difference, np.array([x]), np.array([y]), np.array([flux]), Silent(np.random.PCG64(1)))
    added = copy.image - difference.image
    window = (slice(456 - 8, 456 + 9), slice(401 - 8, 401 + 9))
    assert added[window].sum() == pytest.approx(direct[window].sum(), rel=0.01)
    assert np.abs(added[window] - direct[window]).max() < 0.02 * np.abs(direct[window]).max()
    assert copy.score[456, 401] == pytest.approx(again.score[456, 401], rel=0.03)


def test_fakes_leave_the_science_alone_and_are_found(searched):
    difference = searched.difference
    before = difference.image.tobytes(), difference.filtered.numerator.tobytes()
    settings = FakeSettings(n_blank=600, n_hosts=300, separation_pixels=40.0)
    fakes = inject_fakes(difference, searched.detections, (1, 2), settings, DETECTION)
    assert (difference.image.tobytes(), difference.filtered.numerator.tobytes()) == before
    clear = fakes.on_good_pixels & (fakes.snr_expected > 10)
    assert clear.sum() > 20
    assert fakes.detected[clear].mean() >= 0.97
    assert not fakes.detected[fakes.snr_expected < 2].any()
    found = fakes.match[fakes.detected]
    pull = (fakes.detections.measured.flux[found] - fakes.flux[fakes.detected]) / (
        fakes.detections.measured.flux_error[found]
    )
    assert abs(np.median(pull)) < 0.5
    assert 0.7 < 1.4826 * np.median(np.abs(pull - np.median(pull))) < 1.35
    distance = np.hypot(fakes.x[:, None] - fakes.x, fakes.y[:, None] - fakes.y) + 1e9 * np.eye(len(fakes))
    assert distance.min() >= settings.separation_pixels


def test_fakes_repeat_with_the_same_seed_only(searched):
    settings = FakeSettings(n_blank=80, n_hosts=40)
    first, second, other = (
        inject_fakes(searched.difference, searched.detections, seed, settings, DETECTION)
        for seed in ((7, 1), (7, 1), (7, 2))
    )
    assert np.array_equal(first.x, second.x) and np.array_equal(first.detections.score, second.detections.score)
    assert not np.array_equal(first.x[: other.x.size], other.x[: first.x.size])


def test_efficiency_curve_finds_half_and_its_error():
    rng = np.random.default_rng(3)
    snr = rng.uniform(0.0, 20.0, 600)
    found = snr + rng.normal(size=600) > 5.0
    curve = fit_curve(snr, found, width=1.0)
    assert curve.half == pytest.approx(5.0, abs=4 * curve.half_error)
    assert 0.05 < curve.half_error < 0.3
    assert curve.efficiency_max > 0.98
    assert np.isnan(fit_curve(snr[:5], found[:5], width=1.0).half)
    assert np.isnan(fit_curve(snr, np.ones(600, bool), width=1.0).half)


def test_shares_have_binomial_intervals():
    share, low, high = wilson_interval(np.array([0, 5, 10, 0]), np.array([10, 10, 10, 0]))
    assert share[1] == 0.5 and low[0] == pytest.approx(0.0) and high[2] == pytest.approx(1.0)
    assert 0 < high[0] < 0.2 and 0.3 < low[1] < 0.4
    assert np.isnan(share[3])


def test_efficiency_of_the_search(searched):
    efficiency = measure_efficiency(searched.fakes, 0.5)
    assert efficiency.n_injected.sum() == len(searched.fakes)
    assert np.all(efficiency.n_passed <= efficiency.n_detected)
    assert np.all(efficiency.n_detected <= efficiency.n_injected)


def test_forced_photometry_passes_a_pull_test(searched):
    difference = searched.difference
    rng = np.random.default_rng(9)
    ny, nx = difference.image.shape
    x, y = rng.uniform(20, nx - 20, 3000), rng.uniform(20, ny - 20, 3000)
    quiet = np.abs(difference.score[np.rint(y).astype(int), np.rint(x).astype(int)]) < 4.5
    good = difference.filtered.norm[np.rint(y).astype(int), np.rint(x).astype(int)] > 0
    keep = quiet & good
    forced = measure_forced(difference.as_image(), x[keep], y[keep], DETECTION, difference.filtered.template_flux)
    fine = ~forced.masked & np.isfinite(forced.flux)
    pull = forced.flux[fine] / forced.error[fine]
    assert 1.4826 * np.median(np.abs(pull)) == pytest.approx(1.0, abs=0.07)
    assert abs(np.mean(np.clip(pull, -4, 4))) < 0.1


def test_forced_table_has_fluxes_limits_and_nulls(searched, truth, scenario):
    difference = searched.difference
    bright = int(np.argmin(truth.sky.transient_mag))
    ra, dec = difference.search.wcs.pixel_to_sky(
        np.array([truth.search.true_x[bright], -500.0, 300.0]), np.array([truth.search.true_y[bright], 20.0, 300.0])
    )
    table = forced_table(difference.as_image(), scenario.identity, ["a", "b", "c"], ra, dec, DETECTION)
    assert table.column("candidate_id").to_pylist() == ["a", "c"]
    flux = 10 ** (-0.4 * (truth.sky.transient_mag[bright] - 31.4))
    assert column(table, "flux")[0] == pytest.approx(flux, rel=0.03)
    assert column(table, "mag")[0] == pytest.approx(truth.sky.transient_mag[bright], abs=0.04)
    assert 21.0 < column(table, "limit_mag")[1] < 25.0


def test_bright_stars_veto_detections(searched):
    m = searched.detections.measured
    stars = BrightStars(m.x[:1] + 5.0, m.y[:1], np.array([12.0]))
    again = detect(searched.difference, DETECTION, stars)
    assert again.flags[0] & DetectionFlag.NEAR_STAR
    assert again.star_distance_arcsec[0] == pytest.approx(5 * 0.263, abs=0.05)
    assert np.isnan(again.star_distance_arcsec).any()


def test_tables_follow_their_schemas(searched):
    assert searched.detections_table.schema.equals(DETECTIONS)
    assert searched.fakes_table.schema.equals(FAKES)
    ids = column(searched.detections_table, "detection_id")
    assert np.unique(ids).size == ids.size
    negative = column(searched.detections_table, "flux") < 0
    assert np.all(np.isnan(column(searched.detections_table, "mag")) == negative)
    missed = searched.fakes_table.filter(np.asarray(~searched.fakes.detected))
    assert missed.column("snr").null_count == missed.num_rows


def test_features_and_scores(searched, truth):
    features = features_of(searched.detections, searched.difference.psf.fwhm_pixels)
    assert features.shape == (len(searched.detections), len(FEATURES))
    assert np.isfinite(features).all()
    score = score_detections(searched.detections, searched.difference.psf.fwhm_pixels)
    assert np.all((score >= 0) & (score <= 1))
    values, labels, _ = labelled_features(searched, truth)
    kept = confusion(shipped_model(), values, labels, 0.3)
    assert kept.real_kept > 0.95
    assert kept.bogus_kept < 0.5


def test_training_learns_what_it_is_shown():
    rng = np.random.default_rng(11)
    features = rng.normal(size=(600, len(FEATURES)))
    features[:, FEATURES.index("noise_exponent")] = 24.5
    labels = features[:, 2] - features[:, 6] > 0
    model = train_score(features[:400], labels[:400], "test")
    held = confusion(model, features[400:], labels[400:], 0.5)
    assert held.real_kept > 0.93 and held.bogus_kept < 0.07
    content = model_content(model, "recipe")
    assert content["features"] == list(FEATURES) and len(content["weights"]) == 2 * len(FEATURES)
    with pytest.raises(ValueError, match="expected"):
        train_score(features[:, :3], labels, "test")


def test_stamps_and_picture(searched):
    m = searched.detections.measured
    triplet = cut_triplet(searched.difference, float(m.x[0]), float(m.y[0]))
    assert triplet.search.shape == (51, 51)
    corner = cut_triplet(searched.difference, 2.0, 3.0)
    assert np.isnan(corner.difference[0, 0]) and np.isfinite(corner.difference[40, 40])
    for stamps in (triplet, corner):
        content = triplet_picture(stamps)
        assert content.startswith(b"\x89PNG") and len(content) < 150_000
    picture = imread(io.BytesIO(triplet_picture(triplet)))
    assert picture.shape[:2] == (204, 624)


def test_results_are_written_and_read_back(searched, tmp_path):
    m = searched.detections.measured
    stamps = tuple(cut_triplet(searched.difference, a, b) for a, b in zip(m.x, m.y, strict=True))
    paths = write_image_difference(tmp_path / "out", ImageDifference(searched, stamps, True, 1.0))
    assert all(path.exists() for path in paths.values())
    image, score = read_difference(paths["difference"], paths["psf"])
    assert np.array_equal(image.pixels.science, searched.difference.image)
    assert np.array_equal(score, searched.difference.score)
    assert image.zeropoint_mag == searched.difference.search.zeropoint_mag
    x, y = np.array([300.4, 500.2]), np.array([200.7, 640.9])
    before = measure_forced(searched.difference.as_image(), x, y, DETECTION)
    after = measure_forced(image, x, y, DETECTION)
    assert after.flux == pytest.approx(before.flux, rel=1e-4)
    assert after.error == pytest.approx(before.error, rel=1e-4)
    stamps, header = read_stamps(paths["stamps"])
    n = len(searched.detections)
    assert header["NSTAMPS"] == n and {stamp.triplet.difference.shape for stamp in stamps} == {(51, 51)}
    assert [s.detection_id for s in stamps] == column(searched.detections_table, "detection_id").tolist()
    passed = column(searched.detections_table, "flags") == 0
    assert 0 < len(list(paths["pictures"].glob("*.png"))) == passed.sum() < n, "of those without a flag"
    assert {"SCI", "MATCHED"} <= set(read_planes(paths["template"], ("SCI", "MATCHED"))[0])
    labels = [template.label for template in searched.template.inputs]
    for path in (paths["template"], paths["difference"]):
        header = fits.getheader(path)
        assert [header[f"TMPL{k:03d}"] for k in range(1, header["NTMPL"] + 1)] == labels and len(labels) == 2
        history = " ".join(map(str, header["HISTORY"]))
        assert f"{searched.difference.method}: kernel of half width" in history and "gw-workflow" in history
    assert not {"EXPNUM", "CCDNUM", "MJD-OBS", "EXPTIME"} & set(fits.getheader(paths["template"]))

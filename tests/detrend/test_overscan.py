"""The overscan: levels that follow the rows, noise as it is, outliers without effect."""

import numpy as np
import pytest

from bench.real_pixels import overscan_differences
from imaging.detector.sections import Section
from imaging.detrend.overscan import measure_overscan
from imaging.detrend.settings import DetrendSettings

NOISE = 1.55
SECTION = Section(6, 56, 0, 1024)


def raw(seed: int = 1, noise: float = NOISE, rows: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Return raw pixels and the true level of each row."""
    random = np.random.default_rng(seed)
    levels = 2000.0 + 3.0 * np.sin(np.arange(rows) / 90.0)
    pixels = np.rint(levels[:, None] + random.normal(0, noise, (rows, 60)))
    return pixels.astype(np.uint16), levels


@pytest.mark.parametrize(("method", "limit"), [("mean", 1.15), ("median", 1.6), ("spline", 0.45)])
def test_levels_have_the_error_of_their_method(method, limit):
    pixels, levels = raw()
    overscan = measure_overscan(pixels, SECTION, DetrendSettings(overscan_method=method))
    error = (overscan.levels_adu - levels).std()
    assert error < limit * NOISE / np.sqrt(40)
    assert abs((overscan.levels_adu - levels).mean()) < 5 * NOISE / np.sqrt(40 * 1024)


def test_noise_is_measured_to_its_statistical_error():
    pixels, _ = raw()
    overscan = measure_overscan(pixels, SECTION, DetrendSettings())
    quantised = np.hypot(NOISE, np.sqrt(1 / 12))
    assert overscan.noise_adu == pytest.approx(quantised, rel=5 / np.sqrt(2 * 40 * 1024))


def test_outliers_do_not_pull_a_row():
    pixels, levels = raw()
    pixels[::7, 20:25] = 9000
    pixels[3::7, 30] = 0
    overscan = measure_overscan(pixels, SECTION, DetrendSettings())
    assert np.abs(overscan.levels_adu - levels).max() < 5.5 * NOISE / np.sqrt(35)
    assert overscan.noise_adu == pytest.approx(NOISE, rel=0.05)


def test_trimmed_columns_do_not_count():
    pixels, levels = raw()
    pixels[:, 6:11] += 500
    pixels[:, 51:56] += 500
    overscan = measure_overscan(pixels, SECTION, DetrendSettings())
    assert abs((overscan.levels_adu - levels).mean()) < 5 * NOISE / np.sqrt(40 * 1024)


def test_mean_follows_a_step_that_the_spline_smooths():
    pixels, levels = raw()
    pixels[500:] += 7
    levels = levels + 7.0 * (np.arange(1024) >= 500)
    by_row = measure_overscan(pixels, SECTION, DetrendSettings()).levels_adu
    assert np.abs(by_row - levels)[490:510].max() < 5 * NOISE / np.sqrt(40)


def test_a_dead_amplifier_has_no_noise():
    pixels = np.full((1024, 60), 2000, dtype=np.uint16)
    overscan = measure_overscan(pixels, SECTION, DetrendSettings())
    assert overscan.noise_adu == 0.0
    assert overscan.level_adu == 2000.0


@pytest.mark.real_data
def test_real_overscan_levels_and_noise(real_data):
    """The science CCDs of a real exposure: level and noise of the overscan columns of the cut-out.

    1900 pixels give the noise to 1.6 %; the clipping and the rows' own levels differ from the recipe of the table.
    """
    levels, noises = overscan_differences(real_data / "raw_decam_cutout")
    assert levels.size >= 60
    assert np.abs(levels).max() < 0.6
    assert noises == pytest.approx(np.ones(noises.size), abs=0.08)

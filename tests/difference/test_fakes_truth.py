"""Fakes against sources that GalSim drew; the efficiency against what Gaussian noise makes of a threshold."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from astropy.stats import binom_conf_interval
from scipy.ndimage import gaussian_filter
from scipy.optimize import curve_fit
from scipy.stats import norm

from imaging.difference.detect import DifferenceDetections, detect
from imaging.difference.efficiency import fit_curve, measure_efficiency, wilson_interval
from imaging.difference.fakes import Fakes, add_sources, inject_fakes
from imaging.difference.noise import HALF
from imaging.difference.settings import DetectionSettings, FakeSettings
from tests.difference.drawn import (
    FWHM,
    NO_DETECTIONS,
    NO_STARS,
    ROUND,
    SIGMA,
    ZEROPOINT,
    difference_of,
    draw,
    measurements,
)

SETTINGS = DetectionSettings()
ERROR = SIGMA * np.sqrt(4 * np.pi * ((FWHM / 2.3548) ** 2 + 1 / 12))


class Silent:
    """Random numbers without photon noise."""

    def standard_normal(self, shape):
        return np.zeros(shape)


def galaxies_and_stars(rng, shape, n):
    """Draw as many galaxies as stars, none near another; return their light and the galaxies' places."""
    j, i = np.mgrid[:n, :n]
    x, y = (40.0 + 64 * k.ravel() + rng.uniform(-3, 3, n * n) for k in (i, j))
    is_galaxy = (i + j).ravel() % 2 == 0
    galaxy = galsim.Convolve(ROUND, galsim.Exponential(half_light_radius=4.0))
    profiles = [galaxy if g else ROUND for g in is_galaxy]
    return draw(shape, x, y, np.full(x.size, 2e4), profiles), x[is_galaxy], y[is_galaxy]


def test_added_sources_are_those_of_galsim_in_image_search_and_filter():
    shape, x, y, flux = (200, 180), np.array([60.25, 120.5, 2.0]), np.array([70.75, 128.0, 197.5]), [2e4, 5e3, 3e4]
    rng = np.random.default_rng(1)
    noise = rng.normal(0.0, SIGMA, shape)
    weight = np.full(shape, 1 / SIGMA**2, np.float32)
    weight[60:80, 63] = 0.0
    before = difference_of(np.where(weight > 0, noise, 0.0), weight=weight)
    light = draw(shape, x, y, flux)
    after = add_sources(before, x, y, np.array(flux), Silent())
    peak = light.max()
    assert np.abs(after.search.pixels.science - before.search.pixels.science - light).max() < 1e-3 * peak
    assert np.abs(after.image - before.image - np.where(weight > 0, light, 0.0)).max() < 1e-3 * peak
    again = difference_of(np.where(weight > 0, noise + light, 0.0), weight=weight)
    known = before.filtered.norm > 1e-4
    assert np.abs(after.score - again.score)[known].max() < 2e-3 * again.score.max()
    assert after.search.resampling_inputs is None and np.array_equal(
        before.image, np.where(weight > 0, noise, 0).astype("f4")
    )


def test_a_source_is_seen_through_the_response_of_its_tile():
    point = np.zeros((2 * HALF + 1, 2 * HALF + 1))
    point[HALF, HALF] = 1.0
    before = difference_of(np.zeros((256, 128)), tile=128)
    response = before.noise.response.copy()
    response[1, 0] = 0.8 * gaussian_filter(np.roll(point, (0, 1), (0, 1)), 1.5)  # a pixel to the right, wider
    before = replace(before, noise=replace(before.noise, response=response))
    after = add_sources(before, np.array([60.0, 60.0]), np.array([60.0, 190.0]), np.array([1e4, 1e4]), Silent())
    wide = galsim.Convolve(ROUND, galsim.Gaussian(sigma=1.5))
    expected = draw((256, 128), [60.0, 61.0], [60.0, 190.0], [1e4, 8e3], [ROUND, wide])
    assert np.abs(after.image - expected).max() < 3e-3 * expected.max()
    assert np.abs(after.search.pixels.science - draw((256, 128), [60, 60], [60, 190], [1e4, 1e4])).max() < 1.0


def test_photons_of_fakes_have_the_noise_of_their_light():
    flux, n = 4e4, 300
    before = difference_of(np.zeros((61, 61)))
    header = {"GAIN": 2.0}
    before = replace(before, search=replace(before.search, pixels=replace(before.search.pixels, header=header)))
    rng = np.random.default_rng(2)
    light = draw((61, 61), [30.0], [30.0], [flux])
    core = light > 20.0
    one = np.array([30.0])
    drawn = [add_sources(before, one, one, np.array([flux]), rng).image for _ in range(n)]
    pull = (np.array(drawn) - light)[:, core] / np.sqrt(light[core] / 2.0)
    assert pull.std() == pytest.approx(1.0, abs=3 / np.sqrt(2 * pull.size))


def test_half_of_the_fakes_are_found_where_the_signal_is_at_the_threshold():
    """The highest of the pixels around a source is taken, which adds two degrees of freedom to the square of its score:
    half of the fakes exceed t where snr^2 + 2 = t^2, or, of peaks that pixels cut, a little above."""
    shape = (1100, 1100)
    image = np.random.default_rng(3).normal(0.0, SIGMA, shape)
    settings = FakeSettings(n_blank=2600, n_hosts=0, faintest_mag=27.0, separation_pixels=30.0)
    settings = settings.with_values(threshold_share=1.0, threshold_width_mag=0.5)
    difference = difference_of(image)
    fakes = inject_fakes(difference, detect(difference, SETTINGS, NO_STARS), (1, 2), settings, SETTINGS, NO_STARS)
    assert len(fakes) == round(2600 * 1100**2 / (2048 * 4096)) and not fakes.on_host.any()
    assert fakes.flux == pytest.approx(10 ** (0.4 * (ZEROPOINT - fakes.mag)))
    inner = fakes.on_good_pixels & (np.abs(fakes.x - 550) < 520) & (np.abs(fakes.y - 550) < 520)
    assert fakes.snr_expected[inner] == pytest.approx(fakes.flux[inner] / ERROR, rel=2e-3)
    curve = measure_efficiency(fakes, 0.5).snr
    assert np.sqrt(5.0**2 - 2) - 3 * curve.half_error < curve.half < 5.0 + 3 * curve.half_error
    bins = np.digitize(fakes.snr_expected, [3.0, 4.5, 5.5])
    share = [fakes.detected[bins == k].mean() for k in range(1, 4)]
    assert share[0] < 0.35 < share[1] < 0.75 < share[2]


def test_hosts_are_the_galaxies_and_fakes_keep_their_distance():
    rng = np.random.default_rng(4)
    shape = (600, 600)
    light, x, y = galaxies_and_stars(rng, shape, 9)
    difference = difference_of(rng.normal(0.0, SIGMA, shape), model=light)
    real = replace(NO_DETECTIONS, measured=measurements(1, x=x[0], y=y[0]), score=np.array([9.0]))
    real = replace(real, **{f: np.zeros(1) for f in ("dipole_fraction", "template_flux")})
    settings = FakeSettings(n_blank=1000, n_hosts=700, separation_pixels=20.0)
    fakes = inject_fakes(difference, real, (5, 6), settings, SETTINGS, NO_STARS)
    apart = np.hypot(fakes.x[fakes.on_host, None] - x, fakes.y[fakes.on_host, None] - y)
    assert fakes.on_host.sum() >= 25 and (~fakes.on_host).sum() >= 25
    assert apart.min(axis=1).max() < settings.max_host_offset_pixels + np.sqrt(0.5) + np.sqrt(2)
    assert np.median(apart.min(axis=1)) == pytest.approx(4 / np.sqrt(2), abs=1.0)  # even over the disc
    assert apart[:, 0].min() > 20.0 - 1e-9  # a detection lies there
    distance = np.hypot(fakes.x[:, None] - fakes.x, fakes.y[:, None] - fakes.y)[np.triu_indices(len(fakes), 1)]
    assert distance.min() >= 20.0
    i, j = np.rint(fakes.x).astype(int), np.rint(fakes.y).astype(int)
    assert fakes.surface_brightness == pytest.approx(light[j, i], rel=1e-5, abs=1e-6)


def test_a_fake_is_the_nearest_positive_detection_and_lies_on_good_pixels_or_not():
    weight = np.full((400, 400), 1 / SIGMA**2, np.float32)
    weight[::30, :] = 0.0
    image = np.where(weight > 0, np.random.default_rng(7).normal(0.0, SIGMA, (400, 400)), 0.0)
    settings = FakeSettings(n_blank=3000, n_hosts=0, brightest_mag=20.0, faintest_mag=22.0, threshold_share=0.0)
    settings = settings.with_values(separation_pixels=25.0)
    fakes = inject_fakes(difference_of(image, weight=weight), NO_DETECTIONS, (8, 9), settings, SETTINGS, NO_STARS)
    row = np.rint(fakes.y).astype(int) % 30
    border = np.minimum(np.minimum(np.rint(fakes.x), np.rint(fakes.y)), 399 - np.maximum(*np.rint((fakes.x, fakes.y))))
    clean = (np.minimum(row, 30 - row) > FWHM) & (border >= FWHM)
    assert np.array_equal(fakes.on_good_pixels, clean) and clean.sum() > 20 and (~clean).sum() > 10
    assert fakes.detected[clean].all()
    m = fakes.detections.measured
    for k in np.flatnonzero(fakes.detected):
        distance = np.where(fakes.detections.score > 0, np.hypot(m.x - fakes.x[k], m.y - fakes.y[k]), np.inf)
        assert fakes.match[k] == distance.argmin() and distance.min() <= settings.match_radius_fwhm * FWHM
    assert np.array_equal(fakes.passed, fakes.detected & fakes.detections.passed[fakes.match])


def fakes_of(mag, match, *, snr=None, flags=None, good=None):
    n = len(mag)
    found = max(match, default=-1) + 1
    flags = np.zeros(found, np.int32) if flags is None else np.array(flags, np.int32)
    detections = DifferenceDetections(measurements(found), *[np.zeros(found)] * 5, flags)
    zero, snr = np.zeros(n), np.ones(n) if snr is None else snr
    good = np.ones(n, bool) if good is None else good
    return Fakes(zero, zero, np.array(mag), zero, snr, zero > 1, zero, good, np.array(match), detections)


def test_fakes_are_counted_per_magnitude_once():
    mag = [20.0, 20.1, 20.49, 20.5, 21.2, 21.7, 21.75]
    fakes = fakes_of(mag, [0, 1, -1, 2, -1, 3, -1], flags=[0, 1, 0, 16])
    efficiency = measure_efficiency(fakes, 0.5)
    assert efficiency.edges == pytest.approx([20.0, 20.5, 21.0, 21.5, 22.0])
    assert efficiency.n_injected.tolist() == [3, 1, 1, 2]
    assert efficiency.n_detected.tolist() == [2, 1, 0, 1]
    assert efficiency.n_passed.tolist() == [1, 1, 0, 0]
    assert efficiency.share_passed()[0] == pytest.approx([1 / 3, 1.0, 0.0, 0.0])
    assert np.isnan(efficiency.mag.half) and efficiency.mag.n == 7


def test_half_magnitude_width_and_ceiling_are_those_of_the_draw_and_of_least_squares():
    rng = np.random.default_rng(10)
    n, half, width, ceiling = 6000, 23.1, 0.3, 0.92
    mag = rng.uniform(20.0, 25.0, n)
    found = rng.random(n) < ceiling * norm.sf(mag, half, width)
    good = rng.random(n) < 0.7
    snr = rng.uniform(0.0, 20.0, n)
    match = np.where(found, np.cumsum(found) - 1, -1)
    curve = measure_efficiency(fakes_of(mag, match, snr=snr, good=good), 0.5).mag
    assert curve.half == pytest.approx(half, abs=4 * curve.half_error) and curve.n == n
    # 6000 fakes over 5 mag: 1200 per mag, of which a transition of 0.3 mag knows the middle to 0.02
    assert 0.005 < curve.half_error < 0.03
    assert curve.width == pytest.approx(width, rel=0.15) and curve.efficiency_max == pytest.approx(ceiling, abs=0.02)
    edges = np.arange(20.0, 25.01, 0.1)
    share = np.histogram(mag[found], edges)[0] / np.histogram(mag, edges)[0]
    judge, _ = curve_fit(lambda m, h, w, c: c * norm.sf(m, h, w), edges[:-1] + 0.05, share, p0=(23.0, 0.5, 0.9))
    assert (curve.half, curve.width) == (pytest.approx(judge[0], abs=0.03), pytest.approx(judge[1], abs=0.06))


def test_the_error_of_the_half_is_the_scatter_of_repeated_draws():
    rng = np.random.default_rng(11)
    curves = []
    for _ in range(60):
        snr = rng.uniform(0.0, 12.0, 240)
        curves.append(fit_curve(snr, snr + rng.standard_normal(240) > 5.0, width=1.0))
    pull = np.array([(c.half - 5.0) / c.half_error for c in curves])
    # the prior of the ceiling is above 0.97, as here; 60 draws know the width to a tenth
    assert pull.std() == pytest.approx(1.0, abs=3 / np.sqrt(2 * pull.size))
    assert pull.mean() == pytest.approx(0.0, abs=3 / np.sqrt(pull.size) + 0.2)


def test_the_curve_of_the_signal_to_noise_counts_good_pixels_and_finite_errors():
    rng = np.random.default_rng(12)
    n = 900
    snr = rng.uniform(0.0, 12.0, n)
    found = snr + rng.standard_normal(n) > 5.0
    good = np.arange(n) % 3 > 0
    found[~good] = False
    snr[good.nonzero()[0][:50]] = np.inf
    match = np.where(found, np.cumsum(found) - 1, -1)
    curve = measure_efficiency(fakes_of(rng.uniform(19, 24, n), match, snr=snr, good=good), 0.5).snr
    assert curve.n == 550 and curve.width == 1.0
    assert curve.half == pytest.approx(5.0, abs=4 * curve.half_error)


@pytest.mark.parametrize(("n", "known"), [(19, False), (20, True)])
def test_a_curve_needs_twenty_fakes(n, known):
    brightness = np.linspace(0.0, 10.0, n)
    curve = fit_curve(brightness, brightness > 5.1, width=1.0, sign=-1.0)
    assert np.isfinite(curve.half) == known
    if known:
        assert curve.half == pytest.approx(-5.1, abs=0.6)
    assert fit_curve(np.zeros(0), np.zeros(0, bool), width=1.0).n == 0


@pytest.mark.parametrize("z", [1.0, 1.959964])
def test_intervals_are_those_of_astropy(z):
    k, n = np.array([0, 3, 7, 20, 50]), np.array([5, 8, 50, 20, 100])
    share, low, high = wilson_interval(k, n, z)
    judge = binom_conf_interval(k, n, confidence_level=1 - 2 * norm.sf(z), interval="wilson")
    assert share == pytest.approx(k / n)
    assert low == pytest.approx(judge[0], abs=1e-9) and high == pytest.approx(judge[1], abs=1e-9)

"""Peaks, flags and distances of detections on differences whose sources GalSim drew."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
import sep
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter, maximum_filter

from imaging.bits import MaskBit
from imaging.difference.detect import BrightStars, DifferenceDetections, detect, find_peaks, stars_of_template
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.score import judge
from imaging.difference.settings import DetectionSettings
from imaging.schemas.difference import DetectionFlag as Flag
from tests.difference.drawn import FWHM, ROUND, SIGMA, ZEROPOINT, difference_of, draw, grid_places, measurements

SETTINGS = DetectionSettings()
NO_STARS = BrightStars(np.zeros(0), np.zeros(0), np.zeros(0))
SHAPE = (141, 121)
ERROR = SIGMA * np.sqrt(4 * np.pi * ((FWHM / 2.3548) ** 2 + 1 / 12))
"""Error of the flux of a Gaussian on white noise (King 1983)."""


def noise(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).normal(0.0, SIGMA, shape)


def at(found, x, y, reach=2.5):
    """Return which detection is at a place; exactly one must be."""
    near = np.flatnonzero(np.hypot(found.measured.x - x, found.measured.y - y) < reach)
    assert near.size == 1
    return int(near[0])


@pytest.mark.parametrize("radius", [1, 3])
def test_peaks_are_those_of_a_maximum_filter_of_either_sign(radius):
    score = gaussian_filter(noise(2, (90, 130)), 1.2).astype(np.float32)
    score *= 3 / score.std()
    for image in (score, -score):
        x, y, value = find_peaks(image, 4.0, radius)
        top = {
            sign: (maximum_filter(sign * image, 2 * radius + 1, mode="constant", cval=-np.inf) == sign * image)
            & (sign * image >= 4.0)
            for sign in (1, -1)
        }
        rows, columns = np.nonzero(top[1] | top[-1])
        assert rows.size > 60 and rows.min() == 0 and columns.max() == 129
        assert np.array_equal(y, rows) and np.array_equal(x, columns)
        assert np.array_equal(value, image[rows, columns])


def test_a_plateau_is_one_peak_and_the_threshold_belongs_to_the_detections():
    score = np.zeros((20, 20), np.float32)
    score[5, 5] = score[5, 6] = score[6, 5] = 5.0
    score[15, 15], score[15, 4], score[3, 17] = -5.0, 4.999, 7.0
    x, y, value = find_peaks(score, 5.0, 3)
    assert list(zip(x, y, value, strict=True)) == [(17, 3, 7.0), (5, 5, 5.0), (15, 15, -5.0)]


def test_noise_peaks_are_as_many_as_in_a_gaussian_random_field():
    """Density of maxima above t: |L|^(1/2) t exp(-t^2 / 2) / (2 pi)^(3/2), L the curvature (Bardeen et al. 1986)."""
    threshold, width2 = 3.5, (FWHM / 2.3548) ** 2 + 1 / 12
    shape = (800, 800)
    score = difference_of(noise(3, shape)).score
    x, _, value = find_peaks(score, threshold, 3)
    density = threshold * np.exp(-(threshold**2) / 2) / (2 * np.pi) ** 1.5 / (2 * width2)
    expected = 2 * density * shape[0] * shape[1]
    assert x.size == pytest.approx(expected, abs=3 * np.sqrt(expected) + 0.1 * expected)  # pixels cut the peaks
    assert (value > 0).sum() == pytest.approx(x.size / 2, abs=3 * np.sqrt(x.size) / 2)


def test_sources_of_both_signs_are_found_in_place_with_their_flux_and_score():
    rng = np.random.default_rng(4)
    x, y, shape = grid_places(7, 40, rng)
    flux = np.where(np.arange(x.size) % 2, 1.0, -1.0) * rng.uniform(9.0, 40.0, x.size) * ERROR
    image = draw(shape, x, y, flux) + noise(5, shape)
    found = detect(difference_of(image, photon_gain=1e12), SETTINGS, NO_STARS)
    assert len(found) == x.size
    order = [at(found, a, b) for a, b in zip(x, y, strict=True)]
    m = found.measured
    pull = (m.flux[order] - flux) / m.flux_error[order]
    assert pull.std() == pytest.approx(1.0, abs=3 / np.sqrt(2 * x.size))
    # the score is that of the nearest pixel: up to half a pixel per axis from the source's place
    expected = flux / ERROR
    loss = np.exp(-0.25 * 0.5 / ((FWHM / 2.3548) ** 2 + 1 / 12))
    ratio = found.score[order] / expected
    assert (ratio > loss - 3.5 / np.abs(expected)).all() and (ratio < 1 + 3.5 / np.abs(expected)).all()
    assert np.array_equal((found.flags[order] & Flag.NEGATIVE) != 0, flux < 0)
    assert (found.passed[order] == (flux > 0)).mean() > 0.95


def test_the_error_of_a_flux_has_the_width_of_the_noise_and_what_was_subtracted():
    model = draw(SHAPE, [60.0], [70.0], [2e5])
    plain = difference_of(draw(SHAPE, [62.0], [71.0], [3e4]), model=model)
    error = detect(plain, SETTINGS, NO_STARS).measured.flux_error[0]
    wide = detect(replace(plain, widths=1.2 * plain.widths), SETTINGS, NO_STARS).measured.flux_error[0]
    assert wide == pytest.approx(1.2 * error, rel=1e-3)
    rough = detect(replace(plain, scale_error=0.03), SETTINGS, NO_STARS)
    under = plain.filtered.template_flux[71, 62]
    assert rough.measured.flux_error[0] == pytest.approx(np.hypot(error, 0.03 * under), rel=1e-3)
    shift = replace(plain, shift_error=0.1)
    slopes = np.gradient(plain.filtered.template_flux.astype(float))
    moved = 0.1 * np.hypot(slopes[0][71, 62], slopes[1][71, 62])
    assert detect(shift, SETTINGS, NO_STARS).measured.flux_error[0] == pytest.approx(np.hypot(error, moved), rel=1e-3)


def test_the_light_of_the_template_is_that_of_an_aperture_of_one_fwhm_and_weakens_the_spread():
    model = draw(SHAPE, [61.3], [69.8], [8e4])
    image = draw(SHAPE, [60.3, 5.2], [70.4, 2.6], [3e4, 2e4])
    found = detect(difference_of(image, model=model), SETTINGS, NO_STARS)
    m = found.measured
    judge, _, _ = sep.sum_circle(model, m.x, m.y, FWHM, subpix=1)
    assert found.template_flux == pytest.approx(judge, rel=1e-5, abs=1e-3)
    bare = detect(difference_of(image), SETTINGS, NO_STARS)
    extra = SETTINGS.template_spread_error * found.template_flux / m.flux
    assert m.spread_error == pytest.approx(np.hypot(bare.measured.spread_error, extra), rel=1e-4)
    assert extra.max() > bare.measured.spread_error.min()


@pytest.mark.parametrize(
    ("weaker", "apart", "fraction"), [(1.0, 4.0, 1.0), (0.5, 4.0, 0.5), (0.25, 5.0, 0.25), (1.0, 20.0, 0.0)]
)
def test_a_dipole_has_the_ratio_of_its_two_sides(weaker, apart, fraction):
    strong = 60 * ERROR
    x, y = [60.0, 60.0 + apart], [70.0, 70.0]
    found = detect(difference_of(draw(SHAPE, x, y, [strong, -weaker * strong])), SETTINGS, NO_STARS)
    first = at(found, 60.0, 70.0)
    # the peaks of the scores are pushed apart by a fraction of a pixel, so that the fit is not exact
    assert found.dipole_fraction[first] == pytest.approx(fraction, abs=0.12)
    assert bool(found.flags[first] & Flag.DIPOLE) == (fraction > SETTINGS.max_dipole_fraction)
    if apart < 10:
        assert found.dipole_fraction[at(found, x[1], 70.0)] == pytest.approx(fraction, abs=0.12)


@pytest.mark.parametrize(("snr", "weaker", "flagged"), [(9.0, -3.5, False), (9.0, -5.0, True), (40.0, -18.0, True)])
def test_a_peak_that_noise_makes_beside_a_faint_source_is_no_side_of_a_dipole(snr, weaker, flagged):
    image = draw(SHAPE, [60.0, 60.0], [70.0, 77.0], [snr * ERROR, weaker * ERROR])
    found = detect(difference_of(image), SETTINGS, NO_STARS)
    first = at(found, 60.0, 70.0)
    assert found.dipole_fraction[first] > SETTINGS.max_dipole_fraction
    assert bool(found.flags[first] & Flag.DIPOLE) == flagged


def a_case(name):
    """Return a difference with one source in the middle, and what is wrong with it."""
    x, y, flux = 60.0, 70.0, 40 * ERROR
    image = draw(SHAPE, [x], [y], [flux])
    if name == "point":
        return difference_of(image + noise()), 0
    if name == "ray":
        image = np.zeros(SHAPE)
        image[70, 60] = 60 * SIGMA
        return difference_of(image + noise()), Flag.COSMIC_RAY
    if name == "ray that was convolved":
        search = np.zeros(SHAPE)
        search[70, 60] = flux / 3
        return difference_of(image + noise(), search=search + noise()), Flag.COSMIC_RAY
    if name == "galaxy":
        wide = galsim.Convolve(galsim.Gaussian(fwhm=FWHM), galsim.Exponential(half_light_radius=3.0))
        return difference_of(draw(SHAPE, [x], [y], [2 * flux], wide) + noise()), Flag.NOT_PSF
    if name == "ring":
        image += noise()
        image[60:81, 52:54] = image[60:81, 66:69] = image[60:63, 50:70] = image[78:80, 50:70] = -4 * SIGMA
        return difference_of(image), Flag.NEGATIVE_PIXELS
    if name == "masked":
        weight = np.full(SHAPE, 1 / SIGMA**2, np.float32)
        weight[:, 61:65] = 0.0
        return difference_of(np.where(weight > 0, image + noise(), 0.0), weight=weight), Flag.MASKED
    mask = np.zeros(SHAPE, np.int16)
    if name == "streak":
        mask[82, 72] = MaskBit.STREAK
        return difference_of(image + noise(), mask=mask), Flag.STREAK
    mask[83, 60], mask[60, 60] = MaskBit.STREAK, MaskBit.CRAY | MaskBit.STAR
    return difference_of(image + noise(), mask=mask), 0


@pytest.mark.parametrize("name", ["ray", "ray that was convolved", "galaxy", "ring"])
def test_the_score_vouches_for_none_of_them(name):
    difference, flag = a_case(name)
    found, score = judge(detect(difference, SETTINGS, NO_STARS), FWHM, SETTINGS)
    what = at(found, 60.0, 70.0)
    assert found.flags[what] & flag == flag, score[what]


@pytest.mark.parametrize(
    "name", ["point", "ray", "ray that was convolved", "galaxy", "ring", "masked", "streak", "streak afar"]
)
def test_what_is_wrong_with_a_detection_is_its_flag(name):
    difference, flag = a_case(name)
    found = detect(difference, SETTINGS, NO_STARS)
    flags = int(found.flags[at(found, 60.0, 70.0)])
    assert flags & flag == flag
    others = {"ray": Flag.NOT_PSF, "galaxy": Flag.NEGATIVE_PIXELS, "ring": Flag.NOT_PSF | Flag.DIPOLE}
    assert flags & ~(int(flag) | int(others.get(name, 0))) == 0


def test_the_border_is_flagged_as_far_as_the_settings_say():
    ny, nx = SHAPE
    x = np.array([9.5, 10.5, nx - 10.5, nx - 11.5, 40.5, 40.5, 80.5, 80.5])
    y = np.array([40.0, 60.0, 40.0, 60.0, 9.5, 10.5, ny - 10.5, ny - 11.5])
    x[4:], y[4:] = [30.5, 50.5, 70.5, 90.5], y[4:]
    found = detect(difference_of(draw(SHAPE, x, y, np.full(8, 300 * ERROR))), SETTINGS, NO_STARS)
    edge = [bool(found.flags[at(found, a, b)] & Flag.EDGE) for a, b in zip(x, y, strict=True)]
    assert edge == [True, False] * 4


@pytest.mark.parametrize("mag", [10.0, 13.0, 15.9, 16.0])
def test_the_veto_radius_of_a_star_grows_by_a_fixed_factor_per_magnitude(mag):
    """Five arcseconds at magnitude 15, 0.12 dex per magnitude; distances on the sky are those of astropy."""
    d = difference_of(draw(SHAPE, [60.0], [70.0], [100 * ERROR]))
    radius = 5.0 * 10 ** (0.12 * (15.0 - mag))
    matrix = WCS(d.search.wcs.to_header()).pixel_scale_matrix  # without the distortion: 0.6 per cent in the corner
    assert d.pixel_scale_arcsec == pytest.approx(3600 * np.sqrt(abs(np.linalg.det(matrix))), rel=0.02)
    for share, vetoed in ((0.99, mag < 16.0), (1.01, False)):
        apart = share * radius / d.pixel_scale_arcsec
        stars = BrightStars(
            np.array([60.0 - 0.6 * apart, 900.0]), np.array([70.0 + 0.8 * apart, 900.0]), np.full(2, mag)
        )
        found = detect(d, SETTINGS, stars)
        assert bool(found.flags[0] & Flag.NEAR_STAR) == vetoed
        assert found.star_distance_arcsec[0] == pytest.approx(share * radius, rel=0.005)
    far = BrightStars(np.array([60.0 + 60.5 / d.pixel_scale_arcsec]), np.array([70.0]), np.array([mag]))
    assert np.isnan(detect(d, SETTINGS, far).star_distance_arcsec[0])


def test_bright_stars_of_the_template_have_their_place_and_magnitude():
    mag = np.array([17.9, 14.0, 16.5, 18.3])
    x, y = np.array([30.0, 60.0, 90.0, 60.0]), np.array([30.0, 70.0, 100.0, 110.0])
    shape = (142, 122)
    model = draw(shape, x, y, 10 ** (-0.4 * (mag - ZEROPOINT)))
    search = difference_of(np.zeros(shape), model=model).search
    stars = stars_of_template(model.astype(np.float32), search)
    assert stars.mag == pytest.approx(np.sort(mag[:3]), abs=0.01)
    assert stars.x.tolist() == [60.0, 90.0, 30.0] and stars.y.tolist() == [70.0, 100.0, 30.0]
    assert stars_of_template(model.astype(np.float32), search, 18.5).x.size == 4


def test_the_cut_flow_takes_each_detection_once_in_the_order_of_the_flags():
    flags = np.array([0, 0, 1, 1 | 2, 2 | 256, 4, 256, 8 | 64], np.int32)
    zero = np.zeros(flags.size)
    found = DifferenceDetections(measurements(flags.size), *[zero] * 5, flags)
    flow = found.cut_flow()
    assert list(flow) == ["detected", *(flag.name.lower() for flag in Flag), "passed"]
    kept = {name: count for name, count in flow.items() if count}
    assert kept == {"detected": 8, "negative": 2, "dipole": 1, "cosmic_ray": 1, "not_psf": 1, "edge": 1, "passed": 2}
    assert found.passed.tolist() == [True, True] + [False] * 6


@pytest.mark.parametrize("seed", range(5, 9))
def test_a_peak_beside_noisy_pixels_is_not_detected_by_their_light(seed):
    """Light whose own noise is stated in its pixels, not beside them; a source of 8 sigma elsewhere."""
    y, x = np.indices(SHAPE)
    noisy = np.maximum(np.abs(x - 62), np.abs(y - 62)) < 4
    image = noise(seed) + draw(SHAPE, np.array([30.0]), np.array([90.0]), np.array([8.0 * ERROR]), ROUND)
    image[noisy] += 2.5 * SIGMA
    difference = difference_of(image)
    norm, weight = difference.filtered.norm, difference.weight
    before, added = (norm.copy(), weight.copy()), ResidualNoise(difference.filtered, weight, (0.0, 0.0), FWHM, 0.27)
    added.add(*np.nonzero(noisy), 19.0 / norm[noisy])
    np.divide(difference.filtered.numerator, np.sqrt(norm), out=difference.score)
    across, along, _ = find_peaks(difference.score, SETTINGS.threshold_sigma, SETTINGS.peak_radius_pixels)
    assert np.count_nonzero(np.hypot(across - 62, along - 62) < 9) >= 2
    added.spread(*before)
    np.divide(difference.filtered.numerator, np.sqrt(norm), out=difference.score)
    found = detect(difference, SETTINGS, NO_STARS)
    at(found, 30.0, 90.0)
    assert not (np.hypot(found.measured.x - 62, found.measured.y - 62) < 9).any()

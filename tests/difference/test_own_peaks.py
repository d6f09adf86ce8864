"""One source, however bright, is one detection; its neighbours remain detections of their own."""

import galsim
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from imaging.difference.detect import BrightStars, detect, find_peaks
from imaging.difference.peaks import diffuse_levels, one_of_each_place, own_peaks
from imaging.difference.settings import DetectionSettings
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw, model_of

SHAPE = (140, 150)
SETTINGS = DetectionSettings()
NO_STARS = BrightStars(np.zeros(0), np.zeros(0), np.zeros(0))
RINGED = galsim.Sum([1.6 * ROUND, -0.6 * galsim.Gaussian(fwhm=2.0 * FWHM)])
"""A point source in a whitened difference has a negative ring."""


def error_of(profile: galsim.GSObject) -> float:
    stamp = model_of(profile).stamp(70.0, 70.0, 20)
    return SIGMA / float(np.sqrt(np.sum(stamp**2)))


def a_difference(x, y, snr, drawn, model=ROUND):
    noise = np.random.default_rng(4).normal(0.0, SIGMA, SHAPE)
    flux = np.array(snr) * error_of(model)
    return difference_of(draw(SHAPE, x, y, flux, drawn) + noise, psf=model_of(model))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("case", ["ring", "wide", "elongated"])
def test_a_bright_variable_is_detected_once(case, sign):
    drawn, model = {
        "ring": (RINGED, RINGED),
        "wide": (galsim.Gaussian(fwhm=1.02 * FWHM), ROUND),
        "elongated": (ROUND.shear(g1=0.012), ROUND),
    }[case]
    difference = a_difference([70.3], [60.8], [sign * 900.0], drawn, model)
    peaks = find_peaks(difference.score, SETTINGS.threshold_sigma, SETTINGS.peak_radius_pixels)
    found = detect(difference, SETTINGS, NO_STARS)
    assert len(found) == 1
    assert (found.measured.x[0], found.measured.y[0]) == pytest.approx((70.3, 60.8), abs=0.1)
    if case == "ring":
        assert len(peaks[0]) > 3  # the lobes are there


def test_neighbours_of_a_bright_source_are_sources_of_their_own():
    """One in its core, one in the ring, one of the other sign."""
    x, y = [70.3, 78.9, 70.0, 60.1], [60.8, 61.0, 73.4, 52.0]
    found = detect(a_difference(x, y, [300.0, 60.0, 25.0, -20.0], RINGED, RINGED), SETTINGS, NO_STARS)
    for a, b in zip(x, y, strict=True):
        assert np.hypot(found.measured.x - a, found.measured.y - b).min() < 0.8
    assert len(found) == 4


def test_peaks_that_no_brighter_one_explains_stay():
    stamps = model_of(ROUND).stamp(70.0, 70.0, 20)[None, None]
    tiling = difference_of(np.zeros(SHAPE)).tiling
    x, y = np.array([70.0, 76.0, 110.0]), np.array([60.0, 60.0, 60.0])
    variance = (FWHM / 2.3548) ** 2 + 1 / 12  # of a Gaussian seen through pixels; it is correlated with itself
    lobe, farther_in = (float(np.exp(-(r**2) / (4 * variance))) for r in (6.0, 5.5))
    stamps = np.broadcast_to(stamps, (*tiling.grid, *stamps.shape[2:]))

    def own(second: float, first: float = 100.0, template: float = 0.0) -> list[bool]:
        flux, light = np.array([first, second, 6.0]), np.zeros(SHAPE, np.float32)
        light[62, 72] = template  # a star between the two
        return own_peaks(x, y, flux, np.ones(3), light, stamps, tiling, 5.0, np.full(3, 0.02)).tolist()

    assert own(100.0 * lobe) == [True, False, True]
    # six sigma beyond the lobe, and a wrong PSF of two per cent may add two sigma times the envelope
    least, most = (5.0 * np.hypot(1.0, 2.0 * np.sqrt(height)) for height in (lobe, farther_in))
    assert own(100.0 * lobe + least - 0.3) == [True, False, True]
    assert own(100.0 * lobe + most + 0.3) == [True, True, True]
    # a faint source has lobes too, and a bright star of the template leaves a hundredth of its light
    assert own(9.0 * lobe + 4.5, 9.0) == [True, False, True]
    assert own(8.0, 9.0) == [True, True, True]
    assert own(8.0, 9.0, template=1000.0) == [True, False, True]
    assert own(40.0, 45.0, template=1000.0) == [True, True, True]


def test_two_peaks_that_are_fitted_at_one_place_are_one_source():
    """The fainter one goes, not a third one farther away, nor the other side of a dipole."""
    x, y = np.array([50.0, 51.2, 53.0, 50.4]), np.array([20.0, 20.1, 20.0, 19.7])
    for sign in (1.0, -1.0):
        score = sign * np.array([-29.5, -30.5, -9.0, 12.0])
        assert one_of_each_place(x, y, score, 1.5).tolist() == [False, True, True, True]
    assert one_of_each_place(x[:0], x[:0], x[:0], 1.5).size == 0


def test_a_star_whose_core_is_masked_is_detected_once():
    """Both sides of the masked pixels have a peak; the fit finds the star between them."""
    light = draw(SHAPE, [70.0], [60.0], [100.0 * error_of(ROUND)], ROUND)
    image = light + np.random.default_rng(4).normal(0.0, SIGMA, SHAPE)
    weight = np.full(SHAPE, 1 / SIGMA**2, np.float32)
    weight[:, 70] = 0.0
    difference = difference_of(np.where(weight > 0, image, 0.0), weight=weight)
    difference.filtered.norm[:, 69:72] = 0.0
    difference.score[:, 69:72] = 0.0
    assert len(find_peaks(difference.score, SETTINGS.threshold_sigma, SETTINGS.peak_radius_pixels)[0]) == 2
    found = detect(difference, SETTINGS, NO_STARS)
    assert len(found) == 1


def test_diffuse_light_is_measured_around_a_peak_and_without_it_hardly_ever_believed():
    """A disc of a tenth of a pixel's noise adds 0.7 to the significance of all in it; stars and masks do not count."""
    rng, size, width = np.random.default_rng(12), 600, 2.2
    noise_pixels = 4 * np.pi * width**2
    y, x = np.indices((size, size))
    white = rng.normal(size=(size, size))
    score = gaussian_filter(white, width) * np.sqrt(noise_pixels) + 0.7 * (np.hypot(x - 200, y - 200) < 110)
    for a, b in rng.uniform(60, 540, (25, 2)):
        score += 60.0 * np.exp(-0.25 * ((x - a) ** 2 + (y - b) ** 2) / width**2)
    known = np.ones((size, size), bool)
    known[:, 300:330], score[:, 300:330] = False, 0.0

    def levels(grid, known=known):
        places = np.tile(grid, grid.size), np.repeat(grid, grid.size), np.full(grid.size**2, 5.5)
        return diffuse_levels(score, known, places, noise_pixels, 2.355 * width)

    inside = levels(np.arange(150.0, 251.0, 20.0))
    assert inside.mean() == pytest.approx(0.7, abs=0.15)
    assert (inside > 0).mean() > 0.9
    grid = np.linspace(370.0, 570.0, 12)
    assert (levels(grid) != 0).mean() < 0.1  # wings of stars below the clip are light, too
    assert not levels(grid, ~known).any()


def test_the_rim_of_a_ghost_lifts_the_peaks_on_it_and_a_short_trail_does_not_lift_its_own():
    """A rim as wide as the PSF and four sigma high, of 250 pixels radius; a trail of 4 FWHM of a moving object."""
    rng, size, width = np.random.default_rng(13), 600, 1.9
    noise_pixels, fwhm = 4 * np.pi * width**2, 2.355 * width
    y, x = np.indices((size, size))
    rim = 4.0 * np.exp(-0.25 * ((np.hypot(x - 300, y - 300) - 250.0) / width) ** 2)
    trail = 6.0 * np.exp(-0.25 * (np.hypot(np.maximum(np.abs(x - 300) - 2.0 * fwhm, 0.0), y - 300) / width) ** 2)
    score = gaussian_filter(rng.normal(size=(size, size)), width) * np.sqrt(noise_pixels) + rim + trail
    angle = np.linspace(0.0, 2 * np.pi, 60, endpoint=False)
    known, places = np.ones((size, size), bool), (300 + 250 * np.cos(angle), 300 + 250 * np.sin(angle))
    for sign in (1.0, -1.0):
        on_rim = sign * diffuse_levels(sign * score, known, (*places, np.full(60, sign * 6.0)), noise_pixels, fwhm)
        assert (on_rim > 1.5).mean() > 0.9
        assert on_rim.mean() == pytest.approx(3.0, abs=0.5)  # the fainter side, a pixel away where the rim bends
    middle = np.array([300.0])
    assert diffuse_levels(score, known, (middle, middle, 6.0 * np.ones(1)), noise_pixels, fwhm)[0] < 1.0


def test_the_side_of_a_wide_trail_at_the_border_makes_no_detections_and_hides_no_source():
    """A trail of a sigma of 40 pixels along the border, S/N 20 there; two sources of S/N 40, one of them on it."""
    rng, size, error = np.random.default_rng(14), 400, error_of(ROUND)
    side = 20.0 * SIGMA**2 / error * np.exp(-0.5 * ((size - 1 - np.arange(size)) / 40.0) ** 2)
    sources = draw((size, size), np.array([200.0, 370.0]), np.array([120.0, 210.0]), np.full(2, 40.0 * error))
    difference = difference_of(rng.normal(0.0, SIGMA, (size, size)) + side + sources)
    assert find_peaks(difference.score, 5.0, 3)[0].size > 60
    found = detect(difference, SETTINGS, NO_STARS).measured
    places = sorted(zip(np.rint(found.x).tolist(), np.rint(found.y).tolist(), strict=True))
    assert places == [(200, 120), (370, 210)]

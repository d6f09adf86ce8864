"""Rings around bright stars become noise; transients beside them and blank sky stay what they are."""

import galsim
import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.difference.detect import BrightStars
from imaging.difference.filter import significance
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.star_surroundings import (
    FAINTEST_MAG,
    MASK_REACH,
    REACH_ARCSEC,
    REACH_GROWTH,
    _annulus,
    add_star_surroundings,
    stars_of_mask,
)
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw

SIDE, SCALE = 401, 0.27
GY, GX = np.indices((SIDE, SIDE))
POINT_SIGMA = SIGMA / np.sqrt(np.sum(ROUND.drawImage(nx=41, ny=41, scale=1.0).array ** 2))
"""Error of a point source's flux in white noise of SIGMA per pixel, electrons."""


def blank(seed=5):
    return np.random.default_rng(seed).normal(0.0, SIGMA, (SIDE, SIDE))


def seen(pattern):
    """Return a pattern with the resolution of the PSF, in noise."""
    drawn = galsim.Convolve(galsim.InterpolatedImage(galsim.Image(pattern), scale=1.0, flux=pattern.sum()), ROUND)
    return drawn.drawImage(nx=SIDE, ny=SIDE, scale=1.0, method="no_pixel").array + blank()


def scores(image, x, y, mag):
    """Return the score before and after, and the fluxes."""
    difference = difference_of(image)
    unit = np.ones(difference.tiling.grid)
    before = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    flux = difference.filtered.numerator / difference.filtered.norm
    weight = difference.weight.copy()
    stars = BrightStars(*(np.array([value], dtype=float) for value in (x, y, mag)))
    raised = add_star_surroundings(ResidualNoise(difference.filtered, weight, (0.0, 0.0), FWHM, SCALE), stars)
    after = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    assert difference.filtered.numerator / difference.filtered.norm == pytest.approx(flux, rel=1e-4, abs=1e-2)
    assert raised == np.count_nonzero(weight != difference.weight)
    return before, after, weight != difference.weight


@pytest.mark.parametrize(("x", "y"), [(200.0, 200.0), (425.0, 210.0)])  # on the image, and beyond its edge
def test_a_ring_around_a_star_is_not_significant(x, y):
    radius = np.hypot(GX - x, GY - y)
    ring = np.where(np.abs(radius - 45.0) < 7.0, 1.0, 0.0)
    before, after, changed = scores(seen(9.0 * ring), x, y, 11.0)
    inside = (np.abs(radius - 45.0) < 4.0) & (GX < SIDE - 20)
    assert np.median(before[inside]) > 4.0
    assert np.median(np.abs(after[inside])) < 1.0 and np.abs(after[inside]).max() < 5.0
    assert changed[np.abs(radius - 45.0) > 25.0].mean() < 0.01  # the rings beside it are as before


@pytest.mark.parametrize("snr", [6.0, 20.0, 200.0])
@pytest.mark.parametrize("distance", [16.0, 30.0, 70.0])
def test_a_transient_beside_a_bright_star_keeps_its_significance(snr, distance):
    place = [200.0 + 0.8 * distance], [200.0 + 0.6 * distance]
    image = blank() + draw((SIDE, SIDE), *place, [snr * POINT_SIGMA])
    before, after, _ = scores(image, 200.0, 200.0, 10.0)
    at = round(place[1][0]), round(place[0][0])
    assert before[at] == pytest.approx(snr, abs=2.5, rel=0.03)
    assert after[at] == pytest.approx(before[at], rel=1e-3)


def test_blank_sky_around_a_star_is_searched_as_deeply_as_before():
    before, after, changed = scores(blank(), 200.0, 200.0, 7.0)
    assert changed.mean() < 0.01
    assert after[30:-30, 30:-30].std() == pytest.approx(before[30:-30, 30:-30].std(), rel=0.005)


def test_faint_stars_and_those_far_away_change_nothing():
    ring = np.where(np.abs(np.hypot(GX - 200, GY - 200) - 45.0) < 7.0, 1.0, 0.0)
    for x, mag in ((200.0, FAINTEST_MAG + 0.1), (900.0, 10.0), (-9000.0, 4.0)):
        assert not scores(seen(9.0 * ring), x, 200.0, mag)[2].any()


@pytest.mark.parametrize("radius", [30, 60])
def test_a_saturated_star_that_no_catalogue_has_is_as_bright_as_its_mask_is_wide(radius):
    x, y = 180, 220
    mask = np.where(np.hypot(GX - x, GY - y) < radius, np.int16(MaskBit.SATURATE), np.int16(0))
    mask[y - 170 : y + 120, x - 4 : x + 5] |= np.int16(MaskBit.SATURATE | MaskBit.TRAIL)  # uneven bleed trails
    mask[20:26, 20:26] = np.int16(MaskBit.SATURATE)  # a faint one
    mask[300, 300] = np.int16(MaskBit.CRAY)
    found = stars_of_mask(mask, FWHM, SCALE)
    assert found.x == pytest.approx([x], abs=4.0) and found.y == pytest.approx([y], abs=4.0)
    reach = REACH_ARCSEC * 10 ** (REACH_GROWTH * (FAINTEST_MAG - found.mag[0])) / SCALE
    assert reach == pytest.approx(MASK_REACH * radius, rel=0.15)


def test_an_image_without_saturated_stars_has_none():
    assert stars_of_mask(np.zeros((50, 60), np.int16), FWHM, SCALE).x.size == 0


@pytest.mark.parametrize(("x", "y"), [(30.3, 41.8), (-9.0, 20.5), (150.0, 20.0)])
def test_an_annulus_has_the_pixels_with_a_flux_that_are_not_at_the_border(x, y):
    norm = np.random.default_rng(2).normal(1.0, 1.0, (80, 60)).astype(np.float32)
    inner = norm[1:-1, 1:-1]
    radius = np.hypot(np.arange(1, 59) - x, np.arange(1, 79)[:, None] - y)
    rows, columns = np.nonzero((radius >= 6.0) & (radius < 33.0) & (inner > 0))
    for found, expected in zip(
        _annulus(norm, x, y, 6.0, 33.0), (rows + 1, columns + 1, radius[rows, columns]), strict=True
    ):
        assert np.array_equal(found, expected)
    assert (rows.size > 500) == (x < 100)

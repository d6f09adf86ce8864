"""Ghosts that GalSim draws by geometrical optics: their place is found, and they become noise."""

import galsim
import numpy as np
import pytest

from imaging.difference.detect import BrightStars
from imaging.difference.filter import significance
from imaging.difference.ghosts import FAINTEST_MAG, add_ghosts
from imaging.difference.residual_noise import ResidualNoise
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw

SIDE, SCALE = 480, 0.27
STAR, AXIS = (240.0, 250.0), (-3900.0, 8000.0)
GAPS_MM, SLOPE_PER_PIXEL, FOCAL_RATIO, PIXEL_MM, HOLE = (2.8, 6.5), 5e-6, 2.9, 0.015, 0.35
DISPLACEMENT = 2.0 * FOCAL_RATIO * SLOPE_PER_PIXEL
"""Twice the gap times the slope, over the radius gap / F, per pixel of distance from the axis."""


def donuts(level, axis=AXIS, gaps_mm=GAPS_MM):
    """Return images of the pupil in electrons per pixel, out of focus by twice each gap, seen through the PSF."""
    image = galsim.ImageD(SIDE, SIDE, xmin=0, ymin=0, scale=1.0)
    for gap in gaps_mm:
        radius = gap / FOCAL_RATIO / PIXEL_MM
        shift = [2.0 * gap / PIXEL_MM * SLOPE_PER_PIXEL * (STAR[k] - axis[k]) for k in range(2)]
        disc = galsim.TopHat(radius, flux=level * np.pi * radius**2)
        hole = galsim.TopHat(HOLE * radius, flux=-level * np.pi * (HOLE * radius) ** 2)
        seen = galsim.Convolve(galsim.Sum(disc, hole), ROUND)
        centre = galsim.PositionD(STAR[0] + shift[0], STAR[1] + shift[1])
        seen.drawImage(image=image, add_to_image=True, center=centre, method="no_pixel")
    return image.array


def searched(pattern, mag, *, transient=None, axes=(AXIS,)):
    image = np.random.default_rng(11).normal(0.0, SIGMA, (SIDE, SIDE)) + pattern
    if transient is not None:
        image += draw((SIDE, SIDE), [transient[0]], [transient[1]], [transient[2]])
    difference = difference_of(image)
    unit = np.ones(difference.tiling.grid)
    before = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    weight = difference.weight.copy()
    stars = BrightStars(*(np.array([value]) for value in (*STAR, mag)))
    geometries = add_ghosts(ResidualNoise(difference.filtered, weight, (0.0, 0.0), FWHM, SCALE), stars, axes)
    after = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    return geometries, before, after, weight != difference.weight


@pytest.mark.parametrize("sign", [1.0, -1.0])  # in the search image, or in the template
def test_the_geometry_is_fitted_and_no_edge_of_a_donut_is_significant(sign):
    (geometry, *_), before, after, changed = searched(sign * donuts(8.0), 6.0)
    assert (np.abs(before) > 5.0).mean() > 0.03
    assert geometry.displacement == pytest.approx(DISPLACEMENT, rel=0.1)
    inner = 55 / SCALE / 3.7  # 15 arcsec
    far = np.hypot(*(np.indices((SIDE, SIDE)) - np.array(STAR[::-1])[:, None, None])) > 2.0 * inner
    assert (np.abs(after[far]) > 5.0).mean() < 1e-4
    assert changed.mean() > 0.1


def test_the_rim_of_a_hole_and_that_of_its_donut_have_two_displacements():
    """Both have the same centre, which is farther from the star in units of the smaller radius; one fit leaves 5 %."""
    geometries, before, after, _ = searched(donuts(40.0, gaps_mm=(14.0,)), 6.0)
    assert geometries[0].displacement == pytest.approx(DISPLACEMENT / HOLE, rel=0.1)
    assert geometries[1].displacement == pytest.approx(DISPLACEMENT, rel=0.5)  # much of the rim is beyond the image
    assert (np.abs(before) > 5.0).mean() > 0.7 and (np.abs(after) > 5.0).mean() < 0.015


def test_the_ghosts_of_a_template_with_another_pointing_are_elsewhere():
    """What is left are crescents of both signs, each in a part of the rings; with one axis the geometry is wrong."""
    other = (AXIS[0] - 2000.0, AXIS[1] + 1000.0)  # displaces the larger donut by 10 pixels
    pattern, inner = donuts(16.0) - donuts(16.0, other), 55 / SCALE / 3.7  # 15 arcsec
    far = np.hypot(*(np.indices((SIDE, SIDE)) - np.array(STAR[::-1])[:, None, None])) > 2.0 * inner
    left, displacement = {}, {}
    for axes in ((AXIS,), (AXIS, other)):
        geometries, before, after, _ = searched(pattern, 6.0, axes=axes)
        assert [geometry.axis for geometry in geometries][: len(axes)] == list(axes)
        assert (np.abs(before[far]) > 5.0).mean() > 0.01
        left[axes], displacement[axes] = (np.abs(after[far]) > 5.0).mean(), geometries[0].displacement
    assert left[AXIS, other] < 1e-4
    assert displacement[AXIS, other] == pytest.approx(DISPLACEMENT, rel=0.04)
    assert displacement[AXIS,] != pytest.approx(DISPLACEMENT, rel=0.04)
    near = (AXIS[0] - 20.0, AXIS[1])  # displaces the largest ghost by less than a pixel: the same place
    found = searched(donuts(8.0), 6.0, axes=(AXIS, near))[0]
    assert len({geometry.displacement for geometry in found}) == len(found)


def test_noise_has_no_ghosts_and_stays_as_it_is():
    for mag in (4.0, 8.0):
        geometries, before, after, changed = searched(0.0, mag)
        assert not geometries and not changed.any() and np.array_equal(before, after)


def test_a_star_too_faint_for_ghosts_changes_nothing():
    geometries, *_, changed = searched(donuts(12.0), FAINTEST_MAG + 0.1)
    assert not geometries and not changed.any()


def test_a_transient_in_a_faint_ghost_is_still_found():
    """A tenth of the light is below the noise of a point source, but the whole ring shows it."""
    point = SIGMA / np.sqrt(np.sum(ROUND.drawImage(nx=41, ny=41, scale=1.0).array ** 2))
    geometries, before, after, _ = searched(donuts(2.5), 6.0, transient=(240.0, 400.0, 20.0 * point))
    assert geometries
    at = np.argmax(before[395:406, 235:246])
    assert before[395:406, 235:246].flat[at] == pytest.approx(20.0, abs=3.5)
    assert after[395:406, 235:246].flat[at] > 0.6 * before[395:406, 235:246].flat[at]

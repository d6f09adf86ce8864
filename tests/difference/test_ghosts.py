"""Ghosts that GalSim draws by geometrical optics: their place is found, and they become noise."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from scipy.ndimage import label

from imaging.detector.distortion import seed_wcs
from imaging.difference.detect import BrightStars
from imaging.difference.filter import significance
from imaging.difference.ghost_model import Ghost, GhostFamily, GhostModel, predict_ghosts
from imaging.difference.ghosts import FAINTEST_MAG, add_ghosts, add_known_ghosts
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.subtract import subtract
from imaging.numerics.robust import mad_sigma
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


def known(level, error=0.0, axis=AXIS, *, subtracted=False):
    """Return the true geometry of :func:`donuts` as known ghosts."""
    found = []
    for gap in GAPS_MM:
        radius = gap / FOCAL_RATIO / PIXEL_MM
        x, y = (STAR[k] + DISPLACEMENT * radius * (STAR[k] - axis[k]) for k in range(2))
        found.append(Ghost(x, y, radius, HOLE * radius, 4.0, level, error, subtracted=subtracted))
    return found


def predicted(image, images):
    """Return the significance before and after the ghosts are noise, and the share of the weight that is left."""
    difference = difference_of(image)
    unit = np.ones(difference.tiling.grid)
    before = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    weight = difference.weight.copy()
    add_known_ghosts(ResidualNoise(difference.filtered, difference.weight, (0.0, 0.0), FWHM, SCALE), images)
    after = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    return before, after, difference.weight / weight


def false_in(score, threshold=5.0):
    """Count separate places above the threshold, of either sign."""
    return label(np.abs(score) > threshold)[1]


def test_a_donut_of_which_the_image_has_a_corner_makes_no_false_detections():
    """Rings about its centre are too short to show it; the prediction is noise where its light is."""
    level, corner = 5.0, np.zeros((SIDE, SIDE))
    corner[:60] = donuts(level)[330:390]  # a strip of the larger donut at the image's lower edge
    star = (STAR[0], STAR[1] - 330.0)
    image = np.random.default_rng(12).normal(0.0, SIGMA, (SIDE, SIDE)) + corner
    image[60:] = np.random.default_rng(13).normal(0.0, SIGMA, (SIDE - 60, SIDE))
    difference = difference_of(image)
    unit = np.ones(difference.tiling.grid)
    noise = ResidualNoise(difference.filtered, difference.weight, (0.0, 0.0), FWHM, SCALE)
    stars = BrightStars(np.array([star[0]]), np.array([star[1]]), np.array([6.0]))
    axis = (AXIS[0], AXIS[1] - 330.0)
    assert false_in(significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)[:60]) > 0
    add_ghosts(noise, stars, [axis])
    alone = false_in(significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)[:60])
    below = [replace(ghost, y=ghost.y - 330.0) for ghost in known(level)]
    add_known_ghosts(noise, [(1.0, below)])
    add_ghosts(noise, stars, [axis])
    score = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    assert alone > 0 and false_in(score[:60]) == 0


def test_a_model_predicts_the_ghosts_that_are_bright_enough_and_reach_the_image():
    family = GhostFamily(displacement=0.02, outer_pixels=100.0, inner_pixels=35.0, level=2e-9, level_error=1e-10)
    model = GhostModel(name="ghosts_r.json", band="r", families=[family])
    stars = [(*STAR, 1e9), (*STAR, 3e9), (*STAR, 0.4e9), (SIDE + 150.0, 200.0, 5e9)]
    found = predict_ghosts(model, stars, AXIS, (SIDE, SIDE), 1.0)
    assert [(ghost.level, ghost.level_error) for ghost in found] == [
        (6.0, pytest.approx(0.3)),
        (2.0, pytest.approx(0.1)),
    ]
    assert found[0].x == pytest.approx(STAR[0] + 0.02 * (STAR[0] - AXIS[0]))
    assert found[0].y == pytest.approx(STAR[1] + 0.02 * (STAR[1] - AXIS[1]))


def test_what_is_known_of_a_ghost_is_no_hole_where_it_is_bright():
    image = np.random.default_rng(11).normal(0.0, SIGMA, (SIDE, SIDE))
    flat = draw((SIDE, SIDE), [240.0], [240.0], [1.0])
    mimicked = 1.0 / np.sum(flat**2) / (SIGMA / np.sqrt(np.sum(flat**2)))  # of one electron per pixel, sigma
    before, after, left = predicted(image + donuts(3.0 / mimicked), [(1.0, known(3.0 / mimicked))])
    lit = donuts(1.0) > 0.99
    single = lit & (donuts(1.0) < 1.01)
    assert np.median(before[single]) == pytest.approx(3.0, abs=0.15)
    assert np.median(after[single] / before[single]) == pytest.approx(1.0 / np.sqrt(1.0 + 3.0**2), rel=0.02)
    assert np.median(left[single]) == pytest.approx(0.1, rel=0.02)
    assert (left[donuts(1.0) < 1e-6] == 1.0).mean() > 0.98


def test_of_ghosts_that_cancel_only_the_uncertainty_counts():
    image, level = np.random.default_rng(11).normal(0.0, SIGMA, (SIDE, SIDE)), 8.0
    *_, alone = predicted(image, [(1.0, known(level))])
    *_, same = predicted(image, [(1.0, known(level)), (-1.0, known(level))])
    *_, twice = predicted(image, [(weight, known(level, 0.3 * level)) for weight in (1.0, -1.0)])
    *_, taken = predicted(image, [(1.0, known(level, 0.3 * level, subtracted=True))])
    assert alone.min() < 0.1
    assert same.min() > 0.999
    lit = donuts(1.0) > 0.99
    assert np.median(1.0 / twice[lit] - 1.0) == pytest.approx(2 * 0.09 * np.median(1.0 / alone[lit] - 1.0), rel=0.02)
    other = (AXIS[0] - 2000.0, AXIS[1] + 1000.0)
    single = lit & (donuts(1.0) < 1.01)
    assert np.median(1.0 / taken[single] - 1.0) == pytest.approx(0.09 * np.median(1.0 / alone[single] - 1.0), rel=0.02)
    *_, elsewhere = predicted(image, [(1.0, known(level)), (-1.0, known(level, axis=other))])
    crescent = np.abs(donuts(1.0) - donuts(1.0, other)) > 0.99
    inside = (donuts(1.0) > 0.99) & (np.abs(donuts(1.0) - donuts(1.0, other)) < 0.01)
    assert np.median(elsewhere[crescent]) < 0.1 and np.median(elsewhere[inside]) > 0.999


def test_a_ghost_over_half_of_an_image_leaves_the_score_of_the_rest(truth, template):
    """The width of the score is that of sky without noise of stars, so that more noise here is no less there."""
    search = replace(truth.search.image, wcs=seed_wcs(10, 150.0, -20.0))  # one with an optical axis
    ny, nx = search.pixels.shape
    none = BrightStars(np.zeros(0), np.zeros(0), np.zeros(0))
    level = 3e-8 * 10 ** (0.4 * (search.zeropoint_mag - 8.0))
    ghost = Ghost(-250.0, ny / 2, 600.0, 1.0, 4.0, level, level)
    plain, lit = (subtract(replace(search, ghosts=ghosts), template, stars=none) for ghosts in ((), (ghost,)))
    y, x = np.indices((ny, nx))
    radius = np.hypot(x + 250.0, y - ny / 2)
    under, beyond = (radius < 550) & (plain.score != 0), (radius > 650) & (plain.score != 0)
    assert 0.2 < under.mean() < 0.6
    assert mad_sigma(lit.score[under]) < 0.6 * mad_sigma(plain.score[under])
    ratio = lit.score[beyond] / plain.score[beyond]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.015)
    assert lit.quality["score_noise_width"] == pytest.approx(1.0, abs=0.02)

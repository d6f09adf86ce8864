"""Shifts up to an arcminute and rotations up to two degrees are found by the stars."""

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.templates.align import measure_alignment
from imaging.templates.grid import pixel_map
from imaging.templates.settings import StackSettings

SETTINGS = StackSettings()


def sources(seed, n, shape, turn_deg, shift, common=0.7, noise=0.05):
    """Return stars of two images, the second turned about the centre and shifted; some are in one image only."""
    random = np.random.default_rng(seed)
    ny, nx = shape
    stars = random.uniform(-0.3, 1.3, (n * 3, 2)) * [nx, ny]
    turn = np.radians(turn_deg)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = np.array([nx / 2, ny / 2])
    other = (stars - centre) @ matrix + centre + shift
    lists = []
    for points in (stars, other):
        inside = ((points > 0) & (points < [nx, ny])).all(axis=1) & (random.uniform(size=len(points)) < common)
        lists.append(points[inside] + random.normal(0, noise, (inside.sum(), 2)))
    return (*lists, lambda points: (points - centre) @ matrix + centre + shift)


@pytest.mark.parametrize("shape", [(600, 600), (4094, 2046)])
@pytest.mark.parametrize(
    ("turn", "shift"),
    [
        (0.0, (18.0, 0.0)),
        (0.0, (-30.0, 25.0)),
        (0.0, (160.0, -160.0)),
        (1.0, (4.0, 2.0)),
        (-2.0, (100.0, 60.0)),
        (0.3, (0, 0)),
    ],
)
def test_wrong_coordinates_are_repaired_by_the_stars(shape, turn, shift):
    wcs = seed_wcs(28, 30.0, -20.0)
    grid = pixel_map(wcs, shape, wcs)
    search, template, truth = sources(4, 150, shape, turn, np.array(shift, float))
    found = measure_alignment(search, template, grid, SETTINGS)
    assert found.n_sources > 20 and found.rms_pixels < 0.2
    corners = np.array([[0.0, 0.0], [shape[1] - 1, 0], [0, shape[0] - 1], [shape[1] - 1, shape[0] - 1]])
    placed = np.stack(found.apply(grid).at(*corners.T), axis=1)
    assert np.abs(placed - truth(corners)).max() < 0.25


@pytest.mark.parametrize("n", [5, 30, 200])
def test_images_without_common_stars_are_not_aligned(n):
    wcs = seed_wcs(28, 30.0, -20.0)
    grid = pixel_map(wcs, (600, 600), wcs)
    random = np.random.default_rng(n)
    search, template = random.uniform(0, 600, (2, n, 2))
    found = measure_alignment(search, template, grid, SETTINGS)
    assert found.n_sources < max(5, 0.3 * n)


def test_few_stars_are_enough_for_a_rotation():
    wcs = seed_wcs(28, 30.0, -20.0)
    grid = pixel_map(wcs, (600, 600), wcs)
    search, template, truth = sources(8, 10, (600, 600), 1.5, np.array([40.0, -25.0]), common=1.0)
    found = measure_alignment(search, template, grid, SETTINGS)
    points = np.array([[300.0, 300.0], [100.0, 500.0]])
    assert np.abs(np.stack(found.apply(grid).at(*points.T), axis=1) - truth(points)).max() < 0.5

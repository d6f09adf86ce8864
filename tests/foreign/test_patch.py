"""The part of a stack that has data."""

import numpy as np
import pytest
from matplotlib.path import Path

from imaging.foreign.patch import bounding_box, covered_polygon, outside


def area(corners):
    x, y = corners.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def inside(shape, vertices):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return Path(vertices).contains_points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(shape)


def test_a_full_rectangle_has_the_outer_corners_of_its_pixels():
    covered = np.zeros((60, 80), bool)
    covered[10:51, 20:71] = True
    covered[30, 40:45] = False
    corners = covered_polygon(covered)
    assert sorted(map(tuple, corners)) == [(19.5, 9.5), (19.5, 50.5), (70.5, 9.5), (70.5, 50.5)]
    assert bounding_box(covered) == (slice(10, 51), slice(20, 71))
    assert outside(corners, covered.shape).sum() == 60 * 80 - 41 * 51


@pytest.mark.parametrize(
    "vertices",
    [
        [(50, 5), (280, 90), (230, 195), (10, 120)],
        [(10, 10), (290, 10), (290, 100), (150, 190), (10, 190)],
    ],
)
def test_a_turned_or_cut_field_has_its_own_area(vertices):
    covered = inside((200, 300), vertices)
    corners = covered_polygon(covered)
    assert 4 <= len(corners) <= 8
    assert area(corners) == pytest.approx(area(np.array(vertices, float)), rel=0.02)
    assert np.mean(outside(corners, covered.shape) & covered) < 0.005
    assert np.mean(~outside(corners, covered.shape) & ~covered) < 0.01


def test_without_data_there_is_no_box():
    assert bounding_box(np.zeros((5, 6), bool)) == (slice(0, 0), slice(0, 0))

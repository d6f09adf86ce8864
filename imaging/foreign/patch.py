"""The part of a stack's grid that has data: its bounding box, and the convex polygon around it."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

MAX_CORNERS = 8
"""Corners of the polygon: those that add least to its area are dropped until so many are left."""

LEAST_CORNER = 0.002
"""Fraction of the polygon's area below which a corner is dropped."""


def bounding_box(covered: BoolImage) -> tuple[slice, slice]:
    """Return the slices (y, x) around the covered pixels; empty ones if there are none.

    Parameters
    ----------
    covered
        (ny, nx), pixels with data.
    """
    spans = [np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0)]
    if spans[0].size == 0:
        return slice(0, 0), slice(0, 0)
    return slice(int(spans[0][0]), int(spans[0][-1]) + 1), slice(int(spans[1][0]), int(spans[1][-1]) + 1)


def covered_polygon(covered: BoolImage) -> FloatArray:
    """Return the corners of the convex polygon around the covered pixels, in cyclic order.

    Parameters
    ----------
    covered
        (ny, nx), pixels with data, at least one.

    Returns
    -------
    corners
        (n, 2) x and y, 0-based, of the outer corners of the pixels; n is 3 to 8.
    """
    rows = np.flatnonzero(covered.any(axis=1))
    first = covered[rows].argmax(axis=1)
    last = covered.shape[1] - 1 - covered[rows, ::-1].argmax(axis=1)
    sides = [(x, rows + dy) for x in (first - 0.5, last + 0.5) for dy in (-0.5, 0.5)]
    points = np.concatenate([np.stack(side, axis=-1) for side in sides])
    corners = points[ConvexHull(points).vertices]
    while len(corners) > 4:
        before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
        lost = 0.5 * np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0])
        if len(corners) <= MAX_CORNERS and lost.min() > LEAST_CORNER * ConvexHull(corners).volume:
            break
        corners = np.delete(corners, int(np.argmin(lost)), axis=0)
    return corners


def outside(corners: FloatArray, shape: tuple[int, int]) -> BoolImage:
    """Return which pixels are outside a convex polygon.

    Parameters
    ----------
    corners
        (n, 2) x and y.
    shape
        (ny, nx) of the image.
    """
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    edges = np.roll(corners, -1, axis=0) - corners
    turn = np.sign(np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)))
    out = np.zeros(shape, dtype=np.bool_)
    for (cx, cy), (ex, ey) in zip(corners, edges, strict=True):
        out |= turn * (ex * (y - cy) - ey * (x - cx)) < 0.0
    return out

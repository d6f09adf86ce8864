"""Find a large shift and rotation between the sources of two images whose coordinates are wrong.

For every rotation the offsets of all pairs are counted in cells; the true transformation collects the sources in one.
It is refined by matching nearest sources with a shrinking tolerance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from imaging.templates.settings import StackSettings

FloatArray = NDArray[np.float64]

BRIGHTEST = 150
"""Sources of each image that are compared, the brightest."""

CELL = 4.0
"""Side of the cells in which offsets are counted, pixels; one step of the rotation moves the image's edge as much."""

TRIED = 6
"""Transformations that are refined, those with the most pairs."""

TOLERANCES = (8.0, 4.0, 2.0, 1.0, 1.0)
"""Distance of matched sources in the refinement, pixels."""

MIN_MATCHED, MIN_MATCHED_SHARE = 5, 0.4
"""Fewest matched sources, and their fraction of those expected, that prove a transformation."""

MANY = 15
"""Matched sources from which all six parameters are fitted, not only shift, rotation and scale."""


@dataclass(frozen=True, eq=False)
class PlaneTransform:
    """A linear transformation of the plane.

    Attributes
    ----------
    matrix
        (3, 2): rows for x, y and one.
    n_sources
        Matched sources.
    rms_pixels
        Their scatter per axis.
    """

    matrix: FloatArray
    n_sources: int
    rms_pixels: float

    def apply(self, points: FloatArray) -> FloatArray:
        """Return the (n, 2) transformed points."""
        return _design(points) @ self.matrix


def search_transform(
    predicted: FloatArray, template: FloatArray, settings: StackSettings, pixel_arcsec: float
) -> PlaneTransform | None:
    """Find the shift and rotation that bring predicted places onto sources.

    Parameters
    ----------
    predicted
        (n, 2) places of the search image's sources in the template by the coordinates, the brightest first.
    template
        (m, 2) the template's sources, the brightest first.
    settings
        Largest shift and rotation.
    pixel_arcsec
        Size of a template pixel.

    Returns
    -------
    transform
        From predicted to true places; None if no transformation matches enough sources.
    """
    first, second = predicted[:BRIGHTEST], template[:BRIGHTEST]
    first = first[np.isfinite(first).all(axis=1)]
    if min(len(first), len(second)) < MIN_MATCHED:
        return None
    centre, reach = first.mean(axis=0), settings.align_wide_arcsec / pixel_arcsec + CELL
    radius = max(float(np.hypot(*(first - centre).T).max()), 1.0)
    turn = np.radians(settings.align_wide_deg)
    angles = np.linspace(-turn, turn, 2 * int(np.ceil(turn * radius / (2 * CELL))) + 1)
    starts = sorted((start for a in angles for start in _peaks(first, second, centre, a, reach)), key=lambda s: -s[0])
    best: PlaneTransform | None = None
    for _, angle, shift in starts[:TRIED]:
        found = _refine(predicted, template, _rotation(angle, centre, shift))
        if found is not None and (best is None or found.n_sources > best.n_sources):
            best = found
    return best


def _design(points: FloatArray) -> FloatArray:
    return np.hstack([points, np.ones((len(points), 1))])


def _rotation(angle: float, centre: FloatArray, shift: FloatArray) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, s], [-s, c]])
    return np.vstack([turn, centre + shift - centre @ turn])


def _peaks(
    first: FloatArray, second: FloatArray, centre: FloatArray, angle: float, reach: float
) -> list[tuple[float, float, FloatArray]]:
    """Return number of pairs, angle and shift of the two fullest neighbourhoods of cells at one rotation."""
    turned = _design(first) @ _rotation(angle, centre, np.zeros(2))
    offsets = (second[None] - turned[:, None]).reshape(-1, 2)
    n = 2 * int(np.ceil(reach / CELL)) + 1
    cells = np.floor(offsets / CELL + n / 2).astype(int)
    inside = ((cells >= 0) & (cells < n)).all(axis=1)
    counts = np.bincount(cells[inside, 0] * n + cells[inside, 1], minlength=n * n).reshape(n, n)
    smooth = np.sum([np.roll(counts, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    found = []
    for place in np.argsort(-smooth, axis=None)[:2]:
        cell = np.array(np.unravel_index(place, smooth.shape))
        found.append((float(smooth.flat[place]), angle, (cell + 0.5 - n / 2) * CELL))
    return found


def _refine(predicted: FloatArray, template: FloatArray, matrix: FloatArray) -> PlaneTransform | None:
    tree, back = KDTree(template), None
    for tolerance in TOLERANCES:
        moved = _design(predicted) @ matrix
        distance, nearest = tree.query(moved)
        back = KDTree(moved).query(template)[1]
        mutual = (distance < tolerance) & (back[nearest] == np.arange(len(moved)))
        if mutual.sum() < MIN_MATCHED:
            return None
        matrix = _fitted(predicted[mutual], template[nearest[mutual]])
    residual = _design(predicted[mutual]) @ matrix - template[nearest[mutual]]
    low, high = template.min(axis=0), template.max(axis=0)
    inside = ((moved > low) & (moved < high)).all(axis=1)
    expected = min(int(inside.sum()), len(template))
    if mutual.sum() < max(MIN_MATCHED, MIN_MATCHED_SHARE * expected):
        return None
    return PlaneTransform(matrix, int(mutual.sum()), float(np.sqrt(np.mean(residual**2))))


def _fitted(points: FloatArray, goals: FloatArray) -> FloatArray:
    """Return the (3, 2) matrix of an affine transformation, of a similarity for few points."""
    if len(points) >= MANY:
        return np.asarray(np.linalg.lstsq(_design(points), goals, rcond=None)[0])
    x, y = points.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = np.vstack([np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)])
    a, b, dx, dy = np.linalg.lstsq(rows, goals.T.ravel(), rcond=None)[0]
    return np.array([[a, b], [-b, a], [dx, dy]])

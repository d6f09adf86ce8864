"""Correlation of the noise of an image that was resampled, whatever its pixel scale, its axes and its own correlation.

With the weights w of the taps, an output pixel at the input position p is the sum of w(p, i) n(i). The covariance of
two output pixels a distance d of input pixels apart is the sum over i and j of w(p, i) w(p + d, j) c(j - i), with the
autocorrelation c of the input's noise. The weights are products of both axes.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imaging.templates.grid import PixelMap

FloatArray = NDArray[np.float64]

TAPS = 6
PHASES = 2048
LAGS, MOST_LAGS = 6, 32
"""Number of lags along each axis in which a correlation is described: of the pixels of an input image, and at most."""

PARALLEL = 0.02
"""Largest deviation of two images' pixel axes at which an output pixel is one input pixel beside its neighbour."""

PER_TILE, EVEN = 3, 8
"""Positions along each axis of a tile, and phases along each axis where a tile has all of them."""

DRIFT = 2.0
"""Drift of the phase over a tile, pixels, beyond which all phases are taken as equally frequent."""


@lru_cache(maxsize=1)
def lanczos_table() -> NDArray[np.float32]:
    """Return (PHASES + 1, 6) Lanczos-3 weights for the taps -2 to 3, normalised to unit sum for every phase."""
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    distance = phase - np.arange(-2, 4)[None, :]
    weights = np.where(np.abs(distance) < 3.0, np.sinc(distance) * np.sinc(distance / 3.0), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resampled_noise(
    grid: PixelMap, source_shape: tuple[int, int], tile: int, own: FloatArray | None = None, lags: int | None = None
) -> NDArray[np.float32]:
    """Compute the autocorrelation of the noise of a resampled image, in tiles.

    Parameters
    ----------
    grid
        Map of the pixels.
    source_shape
        (ny, nx) of the input image.
    tile
        Side of a tile in output pixels.
    own
        (6, 6) autocorrelation of the input's noise at lags 0 to 5 in y and x, one at lag zero; None if it is white.
    lags
        Number of lags along each axis that are computed; None takes as many as the taps of two output pixels overlap.

    Returns
    -------
    correlation
        (n, m, lags, lags) float32, lags in output pixels in y and x, in units of the variance of an input pixel.
    """
    (ny, nx), matrix = grid.shape, _matrix(grid)
    lags = lags or number_of_lags(matrix)
    n, m = -(-ny // tile), -(-nx // tile)
    inner, flat = (np.arange(PER_TILE) + 0.5) * tile / PER_TILE, np.zeros((n, m, PER_TILE, PER_TILE))
    y = np.arange(n)[:, None, None, None] * tile + inner[None, None, :, None] + flat
    x = np.arange(m)[None, :, None, None] * tile + inner[None, None, None, :] + flat
    xs, ys = grid.at(np.minimum(x, nx - 1.0), np.minimum(y, ny - 1.0))
    inside = (xs > 0) & (ys > 0) & (xs < source_shape[1] - 1) & (ys < source_shape[0] - 1)
    weight, seen = inside / np.maximum(inside.sum(axis=(2, 3), keepdims=True), 1), inside.any(axis=(2, 3))
    if np.abs(matrix - np.rint(matrix)).max() * tile > DRIFT:
        ys, xs = (phase[None, None] for phase in np.meshgrid(*2 * [(np.arange(EVEN) + 0.5) / EVEN], indexing="ij"))
        weight = np.full(xs.shape, EVEN**-2.0)
    reach = 0 if own is None else LAGS - 1
    apart = np.arange(-reach, reach + 1)
    full = np.ones((1, 1)) if own is None else own[np.abs(apart)][:, np.abs(apart)]
    correlation = np.zeros((n, m, lags, lags))
    for j in range(lags):
        for i in range(lags):
            dx, dy = matrix @ (i, j)
            across, up = _products(xs, dx - apart), _products(ys, dy - apart)
            found = np.einsum("nmabv,vu,nmabu,nmab->nm", up, full, across, weight, optimize=True)
            correlation[:, :, j, i] = np.where(seen, found, float(i == j == 0))
    return correlation.astype(np.float32)


def is_parallel(grid: PixelMap) -> bool:
    """Whether the axes and the scale of two images agree, so that phases are those of one pixel for all lags."""
    return bool(np.abs(_matrix(grid) - np.eye(2)).max() < PARALLEL)


def number_of_lags(matrix: FloatArray) -> int:
    """Return the number of lags, LAGS or more, at which the noise of resampled pixels correlates.

    Parameters
    ----------
    matrix
        (2, 2) input pixels per output pixel.
    """
    return int(np.clip(np.ceil(TAPS / np.sqrt(abs(np.linalg.det(matrix)))), LAGS, MOST_LAGS))


def _matrix(grid: PixelMap) -> FloatArray:
    """Return (2, 2) input pixels (x, y) per output pixel (x, y), the mean over the image."""
    ends = np.array([(a[:, -1] - a[:, 0]).mean() for a in (grid.x, grid.y)]) / (grid.x.shape[1] - 1)
    tops = np.array([(a[-1] - a[0]).mean() for a in (grid.x, grid.y)]) / (grid.x.shape[0] - 1)
    return np.stack([ends, tops], axis=1) / grid.step


def _products(position: FloatArray, offsets: FloatArray) -> FloatArray:
    """Return (..., k) sums of the products of the taps' weights at positions and at positions plus offsets (k,)."""
    table = lanczos_table().astype(float)
    moved = position[..., None] + offsets
    floor, moved_floor = np.floor(position), np.floor(moved)
    first = table[np.rint((position - floor) * PHASES).astype(int)]
    second = np.pad(table, ((0, 0), (TAPS, TAPS)))
    phase = np.rint((moved - moved_floor) * PHASES).astype(int)
    start = np.clip((moved_floor - floor[..., None]).astype(int), -TAPS, TAPS)
    return np.sum([first[..., None, k] * second[phase, k - start + TAPS] for k in range(TAPS)], axis=0)

"""Match the background levels of the images of a stack (as the background matching of LSST does).

Where a pixel lacks an image, under a bleed trail or beyond the end of a template, the others make the stack, and its
level would step by what is left of the sky, of halos and of ghosts in the image that is missing. Every image therefore
loses a smooth level, such that overlapping images agree. The weighted mean of all levels is zero: the stack stays where
all images have data.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.sparse import coo_array, diags_array, eye_array, kron
from scipy.sparse.linalg import spsolve

from imaging.image import FloatImage
from imaging.numerics.blocks import block_cells

FloatArray = NDArray[np.float64]

BLOCK, EVERY = 64, 4
"""Side of the blocks whose medians are taken, and distance of the pixels that are used, pixels."""

LEAST_SHARE = 0.25
"""Smallest fraction of the pixels of a block with data in both images of a pair."""

DEEPEST = 2
"""Every image is compared with these first ones by weight."""

SMOOTH_BLOCKS, FORGET_BLOCKS = 1.0, 8.0
"""Lengths over which levels are averaged where images overlap (their error is a fortieth of a pixel's noise), and over
which the level of an image falls to zero where it has no data: that beside a star is not that of its row."""


def match_levels(science: Sequence[FloatImage], weight: Sequence[FloatImage], scales: FloatArray) -> None:
    """Subtract smooth levels from images, in place, so that they agree where they overlap.

    Images of which no block overlaps with another stay as they are.

    Parameters
    ----------
    science, weight
        n images (ny, nx) on one grid, and their inverse variances; zero where an image has no data.
    scales
        (n,) factors to a common zero point.
    """
    places = (slice(EVERY // 2, None, EVERY),) * 2
    known = [w[places] > 0 for w in weight]
    depth = np.array([float(w[places].sum()) / max(int(k.sum()), 1) for w, k in zip(weight, known, strict=True)])
    shares = depth / scales**2
    order = np.argsort(-shares, kind="stable")
    pairs = [(int(i), int(j)) for number, i in enumerate(order[:DEEPEST]) for j in order[number + 1 :]]
    seen = [np.float32(s) * image[places] for s, image in zip(scales, science, strict=True)]
    steps = [_blocks(seen[i] - seen[j], known[i] & known[j]) for i, j in pairs]
    if not any(np.isfinite(step).any() for step in steps):
        return
    lacking = np.array([~np.isfinite(_blocks(image, k)) for image, k in zip(seen, known, strict=True)])
    for image, level, scale in zip(science, _levels(pairs, steps, lacking, shares / shares.sum()), scales, strict=True):
        image -= _whole(level / scale, image.shape)


def _levels(
    pairs: Sequence[tuple[int, int]], steps: Sequence[FloatArray], lacking: NDArray[np.bool_], shares: FloatArray
) -> FloatArray:
    """Return (k, n, m) levels by least squares.

    Parameters
    ----------
    pairs, steps
        Numbers of two images, and (n, m) medians of their differences; NaN where they do not overlap.
    lacking
        (k, n, m) blocks without data of an image.
    shares
        (k,) fractions of the weight.
    """
    count, rows, columns = lacking.shape
    gradient = _squared_steps(rows, columns) * (count * SMOOTH_BLOCKS**2)
    forget = lacking.reshape(-1) * count * (SMOOTH_BLOCKS / FORGET_BLOCKS) ** 2
    matrix = kron(eye_array(count), gradient) + diags_array(forget + 1e-6)
    matrix += kron(coo_array(count * np.outer(shares, shares)), eye_array(rows * columns))  # no change of the mean
    right = np.zeros((count, rows * columns))
    for (i, j), step in zip(pairs, steps, strict=True):
        found = np.isfinite(step).reshape(-1)
        pair = np.zeros((count, count))
        pair[[i, j], [i, j]], pair[[i, j], [j, i]] = 1.0, -1.0
        matrix += kron(coo_array(pair), diags_array(found.astype(float)))
        right[[i, j]] += np.where(found, step.reshape(-1), 0.0) * np.array([[1.0], [-1.0]])
    levels = spsolve(matrix.tocsc(), right.reshape(-1)).reshape(lacking.shape)
    return np.asarray(levels - np.tensordot(shares, levels, 1))


def _squared_steps(rows: int, columns: int) -> coo_array:
    """Return the matrix of the sum of squared steps between neighbouring blocks."""

    def along(n: int) -> coo_array:
        ends = np.full(n, 2.0)
        ends[0] -= 1.0
        ends[-1] -= 1.0
        return diags_array([ends, np.full(n - 1, -1.0), np.full(n - 1, -1.0)], offsets=[0, 1, -1])

    return kron(along(rows), eye_array(columns)) + kron(eye_array(rows), along(columns))


def _blocks(values: FloatImage, known: NDArray[np.bool_]) -> FloatArray:
    """Return the medians of blocks; NaN where too few pixels are known."""
    side = BLOCK // EVERY
    cells = np.sort(block_cells(np.where(known, values, np.float32(np.nan)), side, side), axis=-1)  # NaN at the end
    counts = np.isfinite(cells).sum(axis=-1)
    median = np.take_along_axis(cells, np.maximum(counts - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    return np.where(counts >= LEAST_SHARE * side**2, median, np.nan).astype(float)


def _whole(level: FloatArray, shape: tuple[int, int]) -> FloatImage:
    """Return the levels of all pixels, linear between the middles of the blocks."""
    fine = zoom(level.astype(np.float32), BLOCK, order=1, mode="nearest", grid_mode=True)
    return np.asarray(fine[: shape[0], : shape[1]], dtype=np.float32)

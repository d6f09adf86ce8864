"""Match the background levels of the images of a stack (as the background matching of LSST does).

Where a pixel lacks an image, under a bleed trail or beyond the end of a template, the others make the stack, and its
level would step by what is left of the sky, of halos and of ghosts in the image that is missing. Every image therefore
loses the smooth part of its difference from the weighted mean of all. That mean, and with it the stack where all images
have data, stays.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom

from imaging.image import FloatImage
from imaging.numerics.blocks import block_cells

FloatArray = NDArray[np.float64]

BLOCK, EVERY = 64, 4
"""Side of the blocks whose medians are taken, and distance of the pixels that are used, pixels."""

SMOOTH_BLOCKS = 1.0
"""Width (sigma) to which the medians are averaged, blocks: the error of a level is a fortieth of a pixel's noise."""

LEAST_SHARE = 0.25
"""Smallest fraction of the pixels of a block with data in all images."""


def match_levels(science: Sequence[FloatImage], weight: Sequence[FloatImage], scales: FloatArray) -> None:
    """Subtract from every image, in place, the smooth part of its difference from the weighted mean of all.

    Images of which no block has data in all of them stay as they are.

    Parameters
    ----------
    science, weight
        n images (ny, nx) on one grid, and their inverse variances; zero where an image has no data.
    scales
        (n,) factors to a common zero point.
    """
    if len(science) < 2:
        return
    ny, nx = science[0].shape
    places = (slice(EVERY // 2, None, EVERY),) * 2
    known = np.logical_and.reduce([w[places] > 0 for w in weight])
    if not known.any():
        return
    shares = np.array([float(w[places][known].mean()) for w in weight]) / scales**2
    shares /= shares.sum()
    mean = sum(np.float32(f * s) * image[places] for f, s, image in zip(shares, scales, science, strict=True))
    levels = [_blocks(np.float32(s) * image[places] - mean, known) for s, image in zip(scales, science, strict=True)]
    found = np.isfinite(levels[0])
    if not found.any():
        return
    smooth = [_smooth(level, found) for level in levels]
    common = sum(f * level for f, level in zip(shares, smooth, strict=True))
    for image, level, scale in zip(science, smooth, scales, strict=True):
        image -= _whole((level - common) / scale, (ny, nx))


def _blocks(values: FloatImage, known: NDArray[np.bool_]) -> FloatArray:
    """Return the medians of blocks; NaN where too few pixels are known."""
    side = BLOCK // EVERY
    cells = np.sort(block_cells(np.where(known, values, np.float32(np.nan)), side, side), axis=-1)  # NaN at the end
    counts = np.isfinite(cells).sum(axis=-1)
    median = np.take_along_axis(cells, np.maximum(counts - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    return np.where(counts >= LEAST_SHARE * side**2, median, np.nan).astype(float)


def _smooth(level: FloatArray, found: NDArray[np.bool_]) -> FloatArray:
    """Return the averaged medians, those of the nearest blocks where there are none."""
    nearest = distance_transform_edt(~found, return_distances=False, return_indices=True)
    return np.asarray(gaussian_filter(level[tuple(nearest)], SMOOTH_BLOCKS, mode="nearest"))


def _whole(level: FloatArray, shape: tuple[int, int]) -> FloatImage:
    """Return the levels of all pixels, linear between the middles of the blocks."""
    fine = zoom(level.astype(np.float32), BLOCK, order=1, mode="nearest", grid_mode=True)
    return np.asarray(fine[: shape[0], : shape[1]], dtype=np.float32)

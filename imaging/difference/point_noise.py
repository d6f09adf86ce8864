"""The noise of fluxes where the noise of a difference is not white.

A tile is whitened for the usual noise of its search image and template. Where a template ends, or under a bleed trail,
the noise of the rest has another spectrum. The weight is right for pixels there; a flux sums them with the PSF, so that
its variance is that of the low frequencies.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.difference.filter import FilteredDifference
from imaging.difference.noise import TileNoise
from imaging.difference.tiles import Tiling
from imaging.image import FloatImage
from imaging.numerics.blocks import block_cells

FloatArray = NDArray[np.float64]

BLOCK, STEP = 16, 4
"""Side of the blocks in which the ratio is constant, about the width of a PSF, and distance of their pixels that count,
pixels."""

LARGEST_RATIO = 2.0
"""Largest increase of a variance. None decreases: in halos of bright stars unknown light would become significant."""


def correct_variances(
    filtered: FilteredDifference, weights: tuple[FloatImage, FloatImage], noise: TileNoise, tiling: Tiling
) -> None:
    """Raise the variances of fluxes, in place, to what they are for noise that is not white; the fluxes stay.

    Parameters
    ----------
    filtered
        The filtered difference.
    weights
        (ny, nx) inverse variances of search image and template from sky and readout.
    noise, tiling
        Variance factors and ratios of point sources per tile.
    """
    if noise.point_ratios is None:
        return
    for row, column, y, x in tiling:
        factors = np.array([noise.search_factor[row, column], noise.template_factor[row, column]])
        search, template = (_block_means(_variance(weight[y, x])) for weight in weights)
        pixels = np.stack([factors[0] * search, factors[1] * template])
        points = np.tensordot(noise.point_ratios[:, row, column], pixels, 1)
        total = pixels.sum(axis=0)
        ratio = np.divide(points, total, out=np.ones_like(total), where=(search > 0) & (template > 0))
        whole = np.repeat(np.repeat(np.clip(ratio, 1.0, LARGEST_RATIO), BLOCK, axis=0), BLOCK, axis=1)
        for values in (filtered.norm, filtered.numerator):
            part = values[y, x]
            part /= whole[: part.shape[0], : part.shape[1]].astype(np.float32)


def _variance(weight: FloatImage) -> FloatImage:
    return np.divide(1.0, weight, out=np.full_like(weight, np.nan), where=weight > 0)


def _block_means(values: FloatImage) -> FloatArray:
    """Return the means of some pixels of blocks, without bad ones; zero where all are bad."""
    cells = block_cells(values[::STEP, ::STEP], BLOCK // STEP, BLOCK // STEP)
    good = np.isfinite(cells)
    return np.asarray(np.where(good, cells, 0.0).sum(axis=-1, dtype=float) / np.maximum(good.sum(axis=-1), 1))

"""Check the weights against the measured noise of blank sky."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import NOT_SKY
from imaging.image import FloatImage, MaskImage

BoolImage = NDArray[np.bool_]

BLOCK = 8
"""Side of the blocks used to separate blank sky from sources."""
BLANK_SIGMA = 2.0
"""Blocks whose mean deviates from the level of the sky by more than this, in units of its error, contain sources."""
LEVEL_STEP, LEVEL_RANGE = 0.01, 2.0
"""Step and range of the levels tried for the sky, in units of a pixel's noise: where stars crowd, the sky that was
subtracted contains some of their light."""
BLANK_VARIANCE = 1.0 - (1.0 - 0.7737413035) / BLOCK**2
"""Variance of a unit Gaussian's pixels in the remaining blocks: the mean of a block has 1/64 of the variance, of which
a Gaussian truncated at two sigma keeps 0.774."""
BINS, RANGE = 4096, 8.0


@dataclass(frozen=True, slots=True)
class NoiseCheck:
    """Noise of blank sky relative to the weights.

    Attributes
    ----------
    ratio
        Measured over predicted noise; NaN if there is no blank sky.
    sigma_electrons
        Measured noise of a pixel of blank sky.
    offset_electrons
        Median of blank sky: residual of the sky subtraction.
    n_pixels
        Number of pixels used.
    """

    ratio: float
    sigma_electrons: float
    offset_electrons: float
    n_pixels: int


def check_noise(science: FloatImage, weight: FloatImage, mask: MaskImage) -> NoiseCheck:
    """Compare the noise of blank sky with the weights.

    The level of the sky is that about which most blocks of 8 x 8 pixels have their means. Blocks with a mean
    significantly off it contain sources and are ignored; the width of the other pixels, in units of their predicted
    noise, is half the distance of their 16th and 84th percentiles.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons, sky subtracted.
    weight
        (ny, nx) float32, inverse variance without the sources' shot noise.
    mask
        (ny, nx) int16.

    Returns
    -------
    check
        The comparison.
    """
    means = _block_means(science, weight, mask, int(NOT_SKY))
    blank = np.abs(means - _level(means)) < BLANK_SIGMA / BLOCK
    counts, sigmas = _histogram(science, weight, mask, int(NOT_SKY), blank)
    total = int(counts.sum())
    if total < 1000:
        return NoiseCheck(float("nan"), float("nan"), float("nan"), total)
    cumulative = np.concatenate(([0.0], np.cumsum(counts))) / total
    edges = np.linspace(-RANGE, RANGE, BINS + 1)
    low, middle, high = np.interp([0.158655254, 0.5, 0.841344746], cumulative, edges)
    ratio = (high - low) / 2.0 / np.sqrt(BLANK_VARIANCE)
    sigma = sigmas / total
    return NoiseCheck(float(ratio), float(ratio * sigma), float(middle * sigma), total)


def _level(means: FloatImage) -> float:
    """Return the level that has most blocks' means within BLANK_SIGMA, in units of a pixel's noise."""
    edges = np.arange(-LEVEL_RANGE, LEVEL_RANGE, LEVEL_STEP)
    sums = np.concatenate(([0], np.cumsum(np.histogram(means, edges)[0])))
    width = 2 * round(BLANK_SIGMA / BLOCK / LEVEL_STEP)
    inside = sums[width:] - sums[:-width]
    most = np.flatnonzero(inside == inside.max())
    return float(edges[int(np.median(most))] + 0.5 * width * LEVEL_STEP)


@njit(cache=True)
def _block_means(science: FloatImage, weight: FloatImage, mask: MaskImage, bits: int) -> FloatImage:
    """Return the means of the normalised pixels of all blocks, NaN where less than half of the pixels are good."""
    ny, nx = science.shape[0] // BLOCK, science.shape[1] // BLOCK
    means = np.full((ny, nx), np.nan, dtype=np.float32)
    for j in range(ny):
        for i in range(nx):
            n, total = 0, 0.0
            for y in range(j * BLOCK, (j + 1) * BLOCK):
                for x in range(i * BLOCK, (i + 1) * BLOCK):
                    if (mask[y, x] & bits) == 0 and weight[y, x] > 0:
                        total += science[y, x] * np.sqrt(weight[y, x])
                        n += 1
            if n >= BLOCK * BLOCK // 2:
                means[j, i] = total / n
    return means


@njit(cache=True)
def _histogram(science: FloatImage, weight: FloatImage, mask: MaskImage, bits: int, blank: BoolImage) -> Any:  # noqa: ANN401
    """Count the normalised pixels of blank blocks, and sum their predicted sigmas."""
    counts = np.zeros(BINS, dtype=np.int64)
    scale = np.float32(BINS / (2.0 * RANGE))
    sigmas = 0.0
    for j in range(blank.shape[0]):
        for i in range(blank.shape[1]):
            if not blank[j, i]:
                continue
            for y in range(j * BLOCK, (j + 1) * BLOCK):
                for x in range(i * BLOCK, (i + 1) * BLOCK):
                    if (mask[y, x] & bits) == 0 and weight[y, x] > 0:
                        root = np.sqrt(weight[y, x])
                        sigmas += 1.0 / root
                        position = int((science[y, x] * root + np.float32(RANGE)) * scale)
                        counts[min(max(position, 0), BINS - 1)] += 1
    return counts, sigmas

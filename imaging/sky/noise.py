"""Check the weights against the measured noise of blank sky."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import NOT_SKY

BLOCK = 8
"""Side of the blocks used to separate blank sky from sources."""
BLANK_SIGMA = 2.0
"""Blocks whose mean deviates from zero by more than this, in units of its error, contain sources."""
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


def check_noise(science: NDArray[np.float32], weight: NDArray[np.float32], mask: NDArray[np.int16]) -> NoiseCheck:
    """Compare the noise of blank sky with the weights.

    Blocks of 8 x 8 pixels with a significant mean contain sources and are ignored; the width of the other pixels, in
    units of their predicted noise, is half the distance of their 16th and 84th percentiles.

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
    counts, sigmas = _histogram(science, weight, mask, int(NOT_SKY))
    total = int(counts.sum())
    if total < 1000:
        return NoiseCheck(float("nan"), float("nan"), float("nan"), total)
    cumulative = np.concatenate(([0.0], np.cumsum(counts))) / total
    edges = np.linspace(-RANGE, RANGE, BINS + 1)
    low, middle, high = np.interp([0.158655254, 0.5, 0.841344746], cumulative, edges)
    ratio = (high - low) / 2.0 / np.sqrt(BLANK_VARIANCE)
    sigma = sigmas / total
    return NoiseCheck(float(ratio), float(ratio * sigma), float(middle * sigma), total)


@njit(cache=True)
def _histogram(science: NDArray[np.float32], weight: NDArray[np.float32], mask: NDArray[np.int16], bits: int) -> Any:  # noqa: ANN401
    """Count the normalised pixels of blank blocks, and sum their predicted sigmas."""
    ny, nx = science.shape
    counts = np.zeros(BINS, dtype=np.int64)
    values = np.empty(BLOCK * BLOCK, dtype=np.float32)
    scale = np.float32(BINS / (2.0 * RANGE))
    sigmas = 0.0
    for y0 in range(0, ny - BLOCK + 1, BLOCK):
        for x0 in range(0, nx - BLOCK + 1, BLOCK):
            n, total, predicted = 0, 0.0, 0.0
            for y in range(y0, y0 + BLOCK):
                for x in range(x0, x0 + BLOCK):
                    if (mask[y, x] & bits) == 0 and weight[y, x] > 0:
                        root = np.sqrt(weight[y, x])
                        values[n] = science[y, x] * root
                        predicted += 1.0 / root
                        total += values[n]
                        n += 1
            if n < BLOCK * BLOCK // 2 or abs(total) > BLANK_SIGMA * np.sqrt(n):
                continue
            sigmas += predicted
            for i in range(n):
                position = int((values[i] + np.float32(RANGE)) * scale)
                counts[min(max(position, 0), BINS - 1)] += 1
    return counts, sigmas

"""Mini-sky: median sky of a CCD in superpixels of 128 pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import NOT_SKY

SUPERPIXEL = 128
"""Side of a superpixel in pixels, as in the Dark Energy Survey's sky modes."""

MINIMUM_SHARE = 0.1
"""Smallest fraction of sky pixels in a valid superpixel."""

BINS = 1024
CLIP, ROUNDS = 1.5, 4
"""Clipping in interquartile ranges about the median, and number of iterations: removes the light of faint sources,
which skews the upper side."""


@dataclass(frozen=True, eq=False)
class MiniSky:
    """Medians of the unmasked pixels of every superpixel of one CCD.

    Attributes
    ----------
    ccdnum
        CCD number.
    values
        (ny / 128, nx / 128) float32, electrons; NaN for superpixels with too few sky pixels.
    """

    ccdnum: int
    values: NDArray[np.float32]


def make_mini_sky(science: NDArray[np.float32], mask: NDArray[np.int16], ccdnum: int) -> MiniSky:
    """Compute the mini-sky of a CCD: medians of superpixels.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons; both sides multiples of 128.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    ccdnum
        CCD number.

    Returns
    -------
    mini_sky
        (ny / 128, nx / 128) medians.
    """
    shape = (science.shape[0] // SUPERPIXEL, science.shape[1] // SUPERPIXEL)
    values = np.empty(shape, dtype=np.float32)
    _block_medians(science, mask, int(NOT_SKY), int(MINIMUM_SHARE * SUPERPIXEL**2), values)
    return MiniSky(ccdnum, values)


@njit(cache=True)
def _block_medians(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    bits: int,
    minimum: int,
    values: NDArray[np.float32],
) -> None:
    """Compute the median of each block from a histogram about a first estimate.

    The histogram spans four widths of a sample of every fourth pixel along x and y; its bins are a hundredth of the
    width, and the median is interpolated within its bin, which leaves an error far below that of the median itself.
    """
    ny, nx = values.shape
    counts = np.empty(BINS + 2, dtype=np.int64)
    for by in range(ny):
        for bx in range(nx):
            rows = slice(by * SUPERPIXEL, (by + 1) * SUPERPIXEL)
            columns = slice(bx * SUPERPIXEL, (bx + 1) * SUPERPIXEL)
            block, flags = science[rows, columns], mask[rows, columns]
            middle, width = _first_estimate(block, flags, bits)
            values[by, bx] = np.nan
            if width == 0:
                continue
            low, scale = middle - np.float32(4.0) * width, np.float32(BINS) / (np.float32(8.0) * width)
            total = _count(block, flags, bits, low, scale, counts)
            if total < max(minimum, 1):
                continue
            centre = _middle(counts, 0.0, BINS + 2.0)
            for _ in range(ROUNDS):
                reach = CLIP * width * scale
                centre = _middle(counts, max(centre - reach, 0.0), min(centre + reach, BINS + 2.0))
            values[by, bx] = low + np.float32(centre - 1.0) / scale


@njit(cache=True)
def _middle(counts: NDArray[np.int64], low: float, high: float) -> float:
    """Return the interpolated median of a histogram between two positions, in bins."""
    first, last = int(low), min(int(high), counts.size - 1)
    total = 0.0
    for b in range(first, last + 1):
        total += counts[b] * (min(high, b + 1.0) - max(low, float(b)))
    below = 0.0
    for b in range(first, last + 1):
        start, stop = max(low, float(b)), min(high, b + 1.0)
        inside = counts[b] * (stop - start)
        if inside > 0.0 and 2.0 * (below + inside) >= total:
            return start + (0.5 * total - below) / inside * (stop - start)
        below += inside
    return 0.5 * (low + high)


@njit(cache=True)
def _first_estimate(block: NDArray[np.float32], flags: NDArray[np.int16], bits: int) -> Any:  # noqa: ANN401
    """Return median and interquartile range of every fourth pixel along both axes; the range is 0 for few pixels."""
    sample = np.empty(block.size, dtype=np.float32)
    n = 0
    for y in range(1, block.shape[0], 4):
        for x in range(1, block.shape[1], 4):
            if (flags[y, x] & bits) == 0:
                sample[n] = block[y, x]
                n += 1
    if n < 8:
        return np.float32(0.0), np.float32(0.0)
    ordered = np.sort(sample[:n])
    return ordered[n // 2], max(ordered[(3 * n) // 4] - ordered[n // 4], np.float32(1e-3))


@njit(cache=True)
def _count(
    block: NDArray[np.float32],
    flags: NDArray[np.int16],
    bits: int,
    low: float,
    scale: float,
    counts: NDArray[np.int64],
) -> int:
    """Fill the histogram, with outliers in its first and last bin, and return the number of pixels."""
    counts[:] = 0
    total = 0
    for y in range(block.shape[0]):
        row, good = block[y], flags[y]
        for x in range(row.size):
            if (good[x] & bits) == 0:
                position = (row[x] - low) * scale
                counts[min(max(int(position + 1), 0), BINS + 1)] += 1
                total += 1
    return total

"""Count the pixels of a mask by their bits, in one pass."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


def mask_shares(mask: NDArray[np.int16], *selections: int) -> tuple[float, ...]:
    """Return the fraction of pixels with any bit of each selection.

    Parameters
    ----------
    mask
        (ny, nx) int16.
    selections
        Bit masks.

    Returns
    -------
    shares
        One per selection, 0 to 1.
    """
    counts = _histogram(mask)
    values = np.flatnonzero(counts)
    return tuple(float(counts[values][(values & int(bits)) != 0].sum() / mask.size) for bits in selections)


@njit(cache=True)
def _histogram(mask: NDArray[np.int16]) -> NDArray[np.int64]:
    counts = np.zeros(1 << 15, dtype=np.int64)
    for y in range(mask.shape[0]):
        row = mask[y]
        for x in range(row.size):
            counts[row[x] & 0x7FFF] += 1
    return counts

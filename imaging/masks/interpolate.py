"""Fill masked pixels from their neighbours, for copies that are only measured."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import MaskBit


def interpolate_rows(
    science: NDArray[np.float32], mask: NDArray[np.int16], bits: int, *, maximum_columns: int = 50
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Interpolate masked pixels linearly along their rows.

    Runs that touch a border of the image or are wider than ``maximum_columns`` are left as they are.

    Parameters
    ----------
    science
        (ny, nx) float32.
    mask
        (ny, nx) int16.
    bits
        Bits of the pixels to fill; pixels on either side of a run are good if they have none of them.
    maximum_columns
        Widest run that is filled.

    Returns
    -------
    filled
        (ny, nx) float32, a copy.
    marked
        (ny, nx) int16, a copy of the mask with INTERP on the pixels that were filled.
    """
    filled, marked = science.copy(), mask.copy()
    _fill(filled, marked, np.int16(bits), maximum_columns, np.int16(MaskBit.INTERP))
    return filled, marked


@njit(cache=True)
def _fill(science: NDArray[np.float32], mask: NDArray[np.int16], bits: int, maximum: int, interpolated: int) -> None:
    for y in range(science.shape[0]):
        row, flags = science[y], mask[y]
        x = 0
        while x < row.size:
            if (flags[x] & bits) == 0:
                x += 1
                continue
            first = x
            while x < row.size and (flags[x] & bits) != 0:
                x += 1
            if first == 0 or x == row.size or x - first > maximum:
                continue
            left, step = row[first - 1], (row[x] - row[first - 1]) / np.float32(x - first + 1)
            for i in range(first, x):
                row[i] = left + step * np.float32(i - first + 1)
                flags[i] |= interpolated

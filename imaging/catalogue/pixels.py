"""Values of the pixels near a source, with masked and neighbours' pixels replaced; used by shapes and apertures.

A pixel that is masked or belongs to another source is replaced by the pixel opposite to it about the source's centre
(SExtractor's MASK_TYPE CORRECT).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.image import FloatImage

OWN, MIRRORED, UNKNOWN, OUTSIDE = 0, 1, 2, 3
"""Origin of a pixel's value; unknown or outside pixels have the value zero."""


@njit(cache=True)
def repaired_row(
    planes: tuple[FloatImage, FloatImage, NDArray[np.int32]],
    label: int,
    j: int,
    first: int,
    twice: tuple[int, int],
    values: NDArray[np.float64],
    origins: NDArray[np.int64],
) -> None:
    """Fill in the values of successive pixels of a row, and their origins.

    A row at a time, because a call with arrays costs as much as ten pixels.

    Parameters
    ----------
    planes
        Science, weight and segmentation, (ny, nx).
    label
        Number of the source in the segmentation.
    j, first
        Row, and column of the first pixel; they may lie outside the image.
    twice
        Twice the centre of the source (y, x), rounded.
    values, origins
        (n,) changed in place.
    """
    science, weight, segmentation = planes
    ny, nx = science.shape
    mj = twice[0] - j
    for n in range(values.size):
        i = first + n
        values[n], origins[n] = 0.0, OUTSIDE
        if j < 0 or j >= ny or i < 0 or i >= nx:
            continue
        owner = segmentation[j, i]
        if weight[j, i] > 0.0 and (owner == 0 or owner == label):
            values[n], origins[n] = science[j, i], OWN
            continue
        origins[n] = UNKNOWN
        mi = twice[1] - i
        if 0 <= mj < ny and 0 <= mi < nx and weight[mj, mi] > 0.0:
            owner = segmentation[mj, mi]
            if owner == 0 or owner == label:
                values[n], origins[n] = science[mj, mi], MIRRORED

"""Value of a pixel near a source, with masked and neighbours' pixels replaced; used by shapes and apertures.

A pixel that is masked or belongs to another source is replaced by the pixel opposite to it about the source's centre
(SExtractor's MASK_TYPE CORRECT).
"""

import numpy as np
from numba import njit

from imaging.image import FloatImage

OWN, MIRRORED, UNKNOWN, OUTSIDE = 0, 1, 2, 3
"""Origin of a pixel's value; unknown or outside pixels have the value zero."""


@njit(cache=True, inline="always")
def repaired_pixel(
    science: FloatImage,
    weight: FloatImage,
    segmentation: np.ndarray,
    label: int,
    j: int,
    i: int,
    two_y: int,
    two_x: int,
) -> tuple[float, int]:
    """Return a pixel's value and its origin; (two_y, two_x) is twice the centre, rounded."""
    ny, nx = science.shape
    if j < 0 or j >= ny or i < 0 or i >= nx:
        return 0.0, OUTSIDE
    owner = segmentation[j, i]
    if weight[j, i] > 0.0 and (owner == 0 or owner == label):
        return float(science[j, i]), OWN
    mj, mi = two_y - j, two_x - i
    if 0 <= mj < ny and 0 <= mi < nx and weight[mj, mi] > 0.0:
        owner = segmentation[mj, mi]
        if owner == 0 or owner == label:
            return float(science[mj, mi]), MIRRORED
    return 0.0, UNKNOWN

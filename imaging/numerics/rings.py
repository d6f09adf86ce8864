"""Local background: median of the pixels in an annulus around a position."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FEWEST = 50
"""Fewest usable pixels in an annulus."""


@njit(cache=True)
def ring_medians(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    inner: float,
    outer: float,
) -> FloatArray:
    """Measure the local background at positions.

    Parameters
    ----------
    image
        (ny, nx) float32.
    usable
        (ny, nx) bool, usable pixels.
    x, y
        (n,) positions, pixels, 0-based.
    inner, outer
        Radii of the annulus, pixels.

    Returns
    -------
    background
        (n,) float64, medians; 0 if fewer than fifty pixels are usable.
    """
    ny, nx = image.shape
    result = np.zeros(x.size)
    reach = int(np.ceil(outer))
    values = np.empty((2 * reach + 1) ** 2, np.float32)
    for k in range(x.size):
        count = 0
        cx, cy = int(np.rint(x[k])), int(np.rint(y[k]))
        for j in range(max(0, cy - reach), min(ny, cy + reach + 1)):
            for i in range(max(0, cx - reach), min(nx, cx + reach + 1)):
                r2 = (i - x[k]) ** 2 + (j - y[k]) ** 2
                if inner * inner < r2 <= outer * outer and usable[j, i]:
                    values[count] = image[j, i]
                    count += 1
        if count >= FEWEST:
            result[k] = np.median(values[:count])
    return result

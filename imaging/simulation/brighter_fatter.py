"""Simulated brighter-fatter effect: charge shifts the borders of bright pixels inwards.

To first order the shift of a border is linear in the charges around it (Antilogus et al. 2014, JINST 9, C03048).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

REACH = 6
"""Rows and columns of the kernels."""

NEAREST = 3.0e-7
"""Shift of a border by one electron beside it, pixels; a star with a peak of 100 ke- grows by about one per cent."""


def border_kernels() -> tuple[FloatArray, FloatArray]:
    """Return the border shifts by one electron: (6, 6) for borders on the right and on top, pixels per electron.

    ``right[j, i]`` belongs to charges j rows away and i columns from the border on either side, ``top[j, i]`` to
    charges j rows from the border and i columns away. The field of a charge falls with the square of the distance.
    """
    along, across = np.meshgrid(np.arange(REACH) + 0.5, np.arange(REACH, dtype=float))
    right = along / (along**2 + across**2) ** 1.5
    right *= NEAREST / right[0, 0]
    return right, right.T.copy()


def redistribute(electrons: FloatImage) -> FloatImage:
    """Return the image with the brighter-fatter effect; the total charge is conserved.

    Parameters
    ----------
    electrons
        (ny, nx) float32, electrons without the effect.
    """
    right, _ = border_kernels()
    n = REACH
    weights = np.zeros((2 * n + 1, 2 * n + 2), dtype=np.float32)
    for j in range(-n + 1, n):
        for i in range(n):
            weights[n + j, n + 1 + i] += right[abs(j), i]
            weights[n + j, n - i] -= right[abs(j), i]
    excess = electrons - np.float32(np.median(electrons[::16, ::16]))
    collected = electrons.copy()
    for axis in (1, 0):
        kernel = weights if axis == 1 else weights.T
        padded = np.pad(excess, ((n, n + 1), (n, n + 1)))
        shift = fftconvolve(padded, kernel[::-1, ::-1], mode="valid")[: electrons.shape[0], : electrons.shape[1]]
        first, second = (np.s_[:, :-1], np.s_[:, 1:]) if axis == 1 else (np.s_[:-1, :], np.s_[1:, :])
        moved = (0.5 * (electrons[first] + electrons[second]) * shift[first]).astype(np.float32)
        collected[first] += moved
        collected[second] -= moved
    return collected

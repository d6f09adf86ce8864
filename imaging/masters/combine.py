"""Combine frames of one CCD with rejection of cosmic rays."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]


def combine_frames(
    frames: Sequence[FloatImage], noise: Sequence[float], clip_sigma: float
) -> tuple[FloatImage, NDArray[np.int16]]:
    """Average frames pixel by pixel with rejection about the median.

    Parameters
    ----------
    frames
        (ny, nx) float32 each.
    noise
        Expected noise of a pixel of each frame, in the frames' unit.
    clip_sigma
        Deviation from the median, in units of the noise, beyond which a value is rejected.

    Returns
    -------
    mean
        (ny, nx) float32.
    rejected
        (ny, nx) int16, number of rejected values.
    """
    stack = np.stack(frames)
    mean = np.empty(stack.shape[1:], dtype=np.float32)
    rejected = np.empty(stack.shape[1:], dtype=np.int16)
    _combine(stack, np.asarray(noise, dtype=np.float32) * np.float32(clip_sigma), mean, rejected)
    return mean, rejected


@njit(cache=True)
def _combine(
    stack: NDArray[np.float32], reach: NDArray[np.float32], mean: FloatImage, rejected: NDArray[np.int16]
) -> None:
    n, ny, nx = stack.shape
    ordered = np.empty(n, dtype=np.float32)
    for y in range(ny):
        for x in range(nx):
            for k in range(n):
                value, i = stack[k, y, x], k
                while i > 0 and ordered[i - 1] > value:
                    ordered[i] = ordered[i - 1]
                    i -= 1
                ordered[i] = value
            middle = np.float32(0.5) * (ordered[(n - 1) // 2] + ordered[n // 2])
            total, kept = np.float64(0.0), 0
            for k in range(n):
                if abs(stack[k, y, x] - middle) <= reach[k]:
                    total += stack[k, y, x]
                    kept += 1
            mean[y, x] = np.float32(total / kept) if kept else middle
            rejected[y, x] = n - kept

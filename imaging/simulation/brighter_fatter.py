"""Simulated brighter-fatter effect: charge shifts the borders of bright pixels inwards.

To first order the shift of a border is linear in the charges around it (Antilogus et al. 2014, JINST 9, C03048).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

REACH = 6
"""Rows and columns of the kernels."""

NEAREST = 3.0e-7
"""Shift of a border by one electron beside it, pixels; a star with a peak of 100 ke- grows by about one per cent."""

MOST_ELECTRONS = 2e5
"""Most charge of a pixel that acts on its surroundings, electrons: about a full well. What is above it bleeds away. The
light of a star of 9 mag would move borders by many pixels and leave pixels of negative charge."""


def border_kernels() -> tuple[FloatArray, FloatArray]:
    """Return the border shifts by one electron: (6, 6) for borders on the right and on top, pixels per electron.

    ``right[j, i]`` belongs to charges j rows away and i columns from the border on either side, ``top[j, i]`` to
    charges j rows from the border and i columns away. The field of a charge falls with the square of the distance.
    """
    along, across = np.meshgrid(np.arange(REACH) + 0.5, np.arange(REACH, dtype=float))
    right = along / (along**2 + across**2) ** 1.5
    right *= NEAREST / right[0, 0]
    return right, right.T.copy()


@njit(cache=True)
def _moved(
    moved: FloatImage, electrons: FloatImage, padded: FloatImage, kernel: FloatImage, step: tuple[int, int]
) -> None:
    """Compute the charge that crosses each border towards lower pixels: to the left, or to the row below.

    ``kernel[j, i]`` belongs to charges j places along the border and i places beyond it on either side.
    """
    ny, nx = electrons.shape
    n = kernel.shape[0]
    down, right = step
    line = np.empty(nx, dtype=np.float32)
    for row in range(ny - down):
        shift = np.zeros(nx, dtype=np.float32)
        for j in range(n):
            for i in range(n):
                weight = kernel[j, i] * (np.float32(0.5) if j == 0 else np.float32(1.0))
                for sign in (-1, 1):
                    after = row + n + down * (i + 1) + (1 - down) * sign * j
                    before = row + n - down * i + (1 - down) * sign * j
                    first = n + right * (i + 1) + (1 - right) * sign * j
                    second = n - right * i + (1 - right) * sign * j
                    a, b = padded[after, first : first + nx], padded[before, second : second + nx]
                    for x in range(nx):
                        shift[x] += weight * (a[x] - b[x])
        for x in range(nx - right):
            line[x] = np.float32(0.5) * (electrons[row, x] + electrons[row + down, x + right]) * shift[x]
        moved[row, : nx - right] = line[: nx - right]


def redistribute(electrons: FloatImage) -> FloatImage:
    """Return the image with the brighter-fatter effect; the total charge is conserved.

    Parameters
    ----------
    electrons
        (ny, nx) float32, electrons without the effect.
    """
    kernel = border_kernels()[0].astype(np.float32)
    acting = np.minimum(electrons, np.float32(MOST_ELECTRONS)) - np.float32(np.median(electrons[::16, ::16]))
    padded = np.pad(acting, (REACH, REACH + 1))
    collected = electrons.copy()
    for step in ((0, 1), (1, 0)):
        moved = np.zeros_like(electrons)
        _moved(moved, electrons, padded, kernel, step)
        collected += moved
        if step == (0, 1):
            collected[:, 1:] -= moved[:, :-1]
        else:
            collected[1:] -= moved[:-1]
    return collected

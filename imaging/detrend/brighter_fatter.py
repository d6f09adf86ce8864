"""Correct the brighter-fatter effect by moving charge across pixel borders.

Charge collected in a pixel repels later charge, so that the borders of a bright pixel move inwards. To first order the
shift of a border is a linear function of the charges around it (Antilogus et al. 2014, JINST 9, C03048; Gruen et al.
2015, JINST 10, C05032, whose kernels the Dark Energy Survey applies).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.bits import MaskBit
from imaging.errors import InputError

IGNORED = MaskBit.BPM | MaskBit.SATURATE | MaskBit.TRAIL | MaskBit.EDGEBLEED | MaskBit.BADAMP
"""Pixels whose charge is unknown."""


@dataclass(frozen=True, eq=False)
class BrighterFatterKernel:
    """Shifts of pixel borders per electron of surrounding charge.

    The border between the pixels (y, x) and (y, x + 1) moves in positive x by ``sum_ij right[j, i] (Q(y + j, x + 1 +
    i) - Q(y + j, x - i))``, with j running over both signs of its index; a positive shift enlarges pixel (y, x). A
    charge repels, so that the coefficients are positive. The border between (y, x) and (y + 1, x) follows ``top`` with
    the axes exchanged: ``top[j, i]`` belongs to charges j rows from the border and i columns to either side.

    Attributes
    ----------
    right
        (n, n) float64, pixels per electron: [rows from the pixel, columns from the border].
    top
        (n, n) float64, pixels per electron: [rows from the border, columns from the pixel].
    """

    right: NDArray[np.float64]
    top: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.right.ndim != 2 or self.right.shape != self.top.shape:
            raise InputError("brighter-fatter kernels differ in shape", value=f"{self.right.shape}, {self.top.shape}")


def correct_brighter_fatter(
    science: NDArray[np.float32], mask: NDArray[np.int16], kernel: BrighterFatterKernel, sky_electrons: float
) -> float:
    """Move charge across the borders of all pixels; the total charge does not change.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons before the flat; changed.
    mask
        (ny, nx) int16; SUSPECT is set beside pixels whose charge is unknown.
    kernel
        Border shifts per electron.
    sky_electrons
        Value substituted for pixels whose charge is unknown.

    Returns
    -------
    largest
        Largest charge moved across a border, electrons.
    """
    unknown = (mask & np.int16(IGNORED)) != 0
    charge = np.where(unknown, np.float32(sky_electrons), science)
    shift_right, shift_top = _shifts(charge, kernel)
    largest = 0.0
    for axis, shift in ((1, shift_right), (0, shift_top)):
        first, second = _pairs(axis)
        known = ~(unknown[first] | unknown[second])
        moved = np.where(known, 0.5 * (charge[first] + charge[second]) * shift[first], np.float32(0.0))
        science[first] -= moved
        science[second] += moved
        suspect = np.int16(MaskBit.SUSPECT)
        mask[first][unknown[second] & ~unknown[first]] |= suspect
        mask[second][unknown[first] & ~unknown[second]] |= suspect
        largest = max(largest, float(np.abs(moved).max(initial=0.0)))
    return largest


def _pairs(axis: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Index both sides of every border along an axis."""
    everything, before, after = slice(None), slice(None, -1), slice(1, None)
    return ((everything, before), (everything, after)) if axis == 1 else ((before, everything), (after, everything))


def _shifts(
    charge: NDArray[np.float32], kernel: BrighterFatterKernel
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convolve the charges with the two kernels: shift of the right and of the upper border of each pixel."""
    n = kernel.right.shape[0]
    level = np.float32(np.median(charge[::16, ::16]))
    ny, nx = charge.shape
    shape = (fft.next_fast_len(ny + 2 * n, real=True), fft.next_fast_len(nx + 2 * n, real=True))
    spectrum = fft.rfft2(charge - level, s=shape)
    shifts = []
    for quarter, transpose in ((kernel.right, False), (kernel.top.T, True)):
        full = _full_kernel(quarter)
        full = full.T if transpose else full
        response = fft.rfft2(_wrapped(full, shape))
        shifts.append(fft.irfft2(spectrum * response, s=shape)[:ny, :nx])
    return shifts[0], shifts[1]


def _full_kernel(quarter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unfold a quarter plane into the weights of the charges at (dy, dx) = index - n: (2n + 1, 2n + 1)."""
    n = quarter.shape[0]
    full = np.zeros((2 * n + 1, 2 * n + 1))
    for j in range(n):
        for i in range(n):
            for dy in {j, -j}:
                full[n + dy, n + 1 + i] += quarter[j, i]
                full[n + dy, n - i] -= quarter[j, i]
    return full


def _wrapped(full: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Arrange correlation weights for a cyclic convolution of this shape."""
    n = full.shape[0] // 2
    image = np.zeros(shape, dtype=np.float32)
    offsets = -np.arange(-n, n + 1)
    image[np.ix_(offsets % shape[0], offsets % shape[1])] = full
    return image

"""A streak on one CCD: a slightly curved line of constant width."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import MaskBit

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Streak:
    """A streak.

    Attributes
    ----------
    x0, y0, x1, y1
        End points, pixels, 0-based; beyond the border where the streak leaves the CCD.
    sagitta_pixels
        Distance of its middle from the chord, positive to the left of the direction from first to second end point:
        optical distortion bends straight lines by up to a pixel per CCD; paths of aircraft are more curved.
    fwhm_pixels
        Full width at half maximum across the streak.
    half_width_pixels
        Half width of the mask.
    surface_electrons
        Peak surface brightness across the streak, electrons per pixel, median along it.
    surface_sigma
        Peak surface brightness in units of the pixel noise.
    significance
        Signal to noise of the whole streak; zero if it is predicted from other CCDs.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    sagitta_pixels: float
    fwhm_pixels: float
    half_width_pixels: float
    surface_electrons: float
    surface_sigma: float
    significance: float

    @property
    def length_pixels(self) -> float:
        """Length of the chord."""
        return float(np.hypot(self.x1 - self.x0, self.y1 - self.y0))

    def points(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Return n points at equal steps along the streak: x and y, pixels."""
        share = np.linspace(0.0, 1.0, n)
        bow = 4.0 * self.sagitta_pixels * share * (1.0 - share)
        length = max(self.length_pixels, 1e-9)
        ux, uy = (self.x1 - self.x0) / length, (self.y1 - self.y0) / length
        along = share * length
        return self.x0 + along * ux - bow * uy, self.y0 + along * uy + bow * ux


def mask_streak(mask: NDArray[np.int16], streak: Streak) -> int:
    """Set STREAK on the pixels that a streak covers.

    Parameters
    ----------
    mask
        (ny, nx) int16; changed.
    streak
        The streak.

    Returns
    -------
    n_pixels
        Pixels covered.
    """
    bits = np.int16(MaskBit.STREAK)
    return int(
        _draw(mask, bits, streak.x0, streak.y0, streak.x1, streak.y1, streak.sagitta_pixels, streak.half_width_pixels)
    )


@njit(cache=True)
def _draw(
    mask: NDArray[np.int16], bits: int, x0: float, y0: float, x1: float, y1: float, sagitta: float, half_width: float
) -> int:
    """Flag the pixels within ``half_width`` of the curve, ends included."""
    ny, nx = mask.shape
    length = np.hypot(x1 - x0, y1 - y0)
    if length <= 0.0:
        return 0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    reach = half_width + abs(sagitta) + 1.0
    n = 0
    for y in range(max(int(min(y0, y1) - reach), 0), min(int(max(y0, y1) + reach) + 2, ny)):
        low, high = min(x0, x1) - reach, max(x0, x1) + reach
        if abs(uy) > 1e-3:
            middle, spread = x0 + (y - y0) * ux / uy, reach / abs(uy)
            low, high = max(low, middle - spread), min(high, middle + spread)
        for x in range(max(int(low), 0), min(int(high) + 2, nx)):
            along = (x - x0) * ux + (y - y0) * uy
            if along < 0.0 or along > length:
                continue
            share = along / length
            across = (y - y0) * ux - (x - x0) * uy - 4.0 * sagitta * share * (1.0 - share)
            if abs(across) <= half_width:
                mask[y, x] |= bits
                n += 1
    return n

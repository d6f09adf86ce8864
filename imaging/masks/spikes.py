"""Tell a star's diffraction spike from the trail of a satellite: spikes cross.

Each vane of the telescope diffracts light across itself, and the vanes are at right angles to each other. So a line
through a saturated star is a spike if the line across it through the star shows light too. No angle need be known; a
trail that runs over a star by chance has no second one.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.masks.streak_model import Streak
from imaging.masks.streak_strip import Course, straighten, without_sides

FloatImage = NDArray[np.float32]
MaskImage = NDArray[np.int16]

IGNORED = int((NO_WEIGHT | MaskBit.SSXTALK) & ~MaskBit.STREAK)
"""Bits of pixels that are not looked at; the halo of the star is."""

REACH_PIXELS, PIECE_PIXELS = 400.0, 40
"""Length of the arms that are looked at, and of their pieces."""

BESIDE_DEG = (-15.0, 15.0)
"""Directions beside the second spike: the halo of the star and its ghosts show there as much as in it."""

LEAST_SIGMA = 5.0
"""Significance by which the second spike must exceed that of both directions beside it."""


def is_spike(image: tuple[FloatImage, FloatImage, MaskImage], streak: Streak) -> bool:
    """Return whether a streak is the diffraction spike of a saturated star of the image.

    Parameters
    ----------
    image
        Science, weight and mask, (ny, nx).
    streak
        The streak, of positive brightness.
    """
    across = np.arctan2(streak.y1 - streak.y0, streak.x1 - streak.x0) + 0.5 * np.pi
    for x, y in _saturated_on(image[2], streak):
        second = _significance(image, x, y, float(across), streak.fwhm_pixels)
        beside = max(_significance(image, x, y, across + np.radians(d), streak.fwhm_pixels) for d in BESIDE_DEG)
        if second - max(beside, 0.0) > LEAST_SIGMA:
            return True
    return False


def _saturated_on(mask: MaskImage, streak: Streak) -> list[tuple[float, float]]:
    """Return the middles of the saturated stretches of a streak: those of stars if it runs through their centres."""
    ny, nx = mask.shape
    x, y = streak.points(int(streak.length_pixels) + 2)
    columns, rows = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    inside = (columns >= 0) & (columns < nx) & (rows >= 0) & (rows < ny)
    saturated = np.zeros(x.size + 2, dtype=np.int8)
    saturated[1:-1][inside] = (mask[rows[inside], columns[inside]] & np.int16(MaskBit.SATURATE)) != 0
    step = np.diff(saturated)
    starts, stops = np.flatnonzero(step == 1), np.flatnonzero(step == -1)
    return [(float(x[a:b].mean()), float(y[a:b].mean())) for a, b in zip(starts, stops, strict=True)]


def _significance(
    image: tuple[FloatImage, FloatImage, MaskImage], x: float, y: float, angle: float, fwhm_pixels: float
) -> float:
    """Return the signal to noise of the light along a line through a point, above that on both sides of it."""
    course = Course(x, y, float(np.cos(angle)), float(np.sin(angle)))
    strip = straighten(image, IGNORED, course, (-REACH_PIXELS, REACH_PIXELS), PIECE_PIXELS, 1)
    core = np.abs(strip.across) <= max(0.6 * fwhm_pixels, 1.0)
    flat = without_sides(strip.profile, fwhm_pixels)[:, core]
    known = np.isfinite(flat).all(axis=1)
    if not known.any():
        return 0.0
    sigma = flat[known].mean(axis=1) / (strip.error[known] / np.sqrt(core.sum()))
    return float(np.clip(sigma, -10.0, 10.0).sum() / np.sqrt(known.sum()))

"""Mask streaks that are visible on the difference only: they are straight, and no star or galaxy hides them there."""

import numpy as np

from imaging.bits import MaskBit
from imaging.image import FloatImage, MaskImage
from imaging.masks.settings import StreakSettings
from imaging.masks.streak_model import mask_streak
from imaging.masks.streaks import find_streaks


def mask_streaks(image: FloatImage, weight: FloatImage, mask: MaskImage, settings: StreakSettings) -> tuple[int, int]:
    """Find streaks of either sign on a difference and mask them: positive ones are of the search image.

    Parameters
    ----------
    image, weight, mask
        (ny, nx) difference in electrons, its inverse variance and mask; pixels of streaks get value and
        weight zero and the bit STREAK, in place.
    settings
        Limits of the search.

    Returns
    -------
    n_streaks, n_pixels
        Streaks, and pixels with weight that they cover.
    """
    streaks = find_streaks(image, weight, mask, settings) + find_streaks(-image, weight, mask, settings)
    if not streaks:
        return 0, 0
    drawn = np.zeros_like(mask)
    for streak in streaks:
        mask_streak(drawn, streak)
    covered = (drawn & np.int16(MaskBit.STREAK)) != 0
    n_pixels = int(np.count_nonzero(covered & (weight > 0)))
    mask |= drawn
    image[covered] = 0.0
    weight[covered] = 0.0
    return len(streaks), n_pixels

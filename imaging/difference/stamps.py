"""Cut search, template and difference stamps."""

import numpy as np

from imaging.difference.records import Difference
from imaging.difference.triplet import STAMP_SIDE, StampTriplet
from imaging.image import FloatImage


def cut_triplet(difference: Difference, x: float, y: float, side: int = STAMP_SIDE) -> StampTriplet:
    """Cut the three stamps about a position.

    Parameters
    ----------
    difference
        The difference.
    x, y
        Position, pixels.
    side
        Pixels along a side, odd.
    """
    cx, cy, half = round(x), round(y), side // 2
    return StampTriplet(
        *(
            cut_stamp(plane, cx, cy, half)
            for plane in (difference.search.pixels.science, difference.model, difference.image)
        )
    )


def cut_stamp(image: FloatImage, x: int, y: int, half: int) -> FloatImage:
    """Return the (2 half + 1, 2 half + 1) pixels about a pixel, NaN beyond the image."""
    ny, nx = image.shape
    stamp = np.full((2 * half + 1, 2 * half + 1), np.nan, dtype=np.float32)
    ys, xs = slice(max(y - half, 0), min(y + half + 1, ny)), slice(max(x - half, 0), min(x + half + 1, nx))
    stamp[ys.start - y + half : ys.stop - y + half, xs.start - x + half : xs.stop - x + half] = image[ys, xs]
    return stamp

"""Cut search, template and difference stamps, and draw them side by side as a PNG."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from imaging.difference.records import Difference
from imaging.image import FloatImage

STAMP_SIDE = 51
"""Side of a stamp in pixels, as in the original pipeline."""

ZOOM = 4
GAP = 6
INNER = 8
"""Half width of the central part of search and template stamps that sets their stretch, without bright neighbours."""


@dataclass(frozen=True, eq=False)
class StampTriplet:
    """Three stamps about one position, (51, 51) float32 each, electrons of the search image; NaN outside the image.

    Attributes
    ----------
    search, template, difference
        The search image, the matched template, and the whitened difference.
    """

    search: FloatImage
    template: FloatImage
    difference: FloatImage


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


def triplet_picture(triplet: StampTriplet) -> bytes:
    """Draw the three stamps side by side as a PNG: search and template with one stretch, the difference with its own.

    Parameters
    ----------
    triplet
        The stamps.
    """
    together = np.stack([triplet.search, triplet.template])
    sigma = _noise(triplet.difference)
    low = float(np.nanmedian(together)) - 3.0 * sigma
    middle = triplet.search.shape[0] // 2
    inner = together[:, middle - INNER : middle + INNER + 1, middle - INNER : middle + INNER + 1]
    high = max(float(np.nanpercentile(inner, 99.0)) if np.isfinite(inner).any() else low, low + 12.0 * sigma)
    reach = max(5.0 * sigma, 0.7 * float(np.nanmax(np.abs(_core(triplet.difference)))))
    panels = [_grey(plane, low, high) for plane in together] + [_grey(triplet.difference, -reach, reach, linear=True)]
    height = panels[0].shape[0]
    gap = np.full((height, GAP), 255, dtype=np.uint8)
    strip = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    picture = np.repeat(strip[:, :, None], 3, axis=2)
    for panel in range(3):
        _mark(picture, panel * (height + GAP) + height // 2, height // 2)
    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    return buffer.getvalue()


def _noise(stamp: FloatImage) -> float:
    sigma = 1.4826 * float(np.nanmedian(np.abs(stamp - np.nanmedian(stamp)))) if np.isfinite(stamp).any() else 0.0
    return sigma if sigma > 0 else 1.0


def _core(stamp: FloatImage) -> FloatImage:
    middle = stamp.shape[0] // 2
    return np.nan_to_num(stamp[middle - 4 : middle + 5, middle - 4 : middle + 5])


def _grey(plane: FloatImage, low: float, high: float, *, linear: bool = False) -> NDArray[np.uint8]:
    """Scale to 8 bits, brightest is white, with north up in pixel rows (row zero at the bottom), enlarged."""
    share = np.clip((np.nan_to_num(plane, nan=low) - low) / (high - low), 0.0, 1.0)
    if not linear:
        share = np.arcsinh(8.0 * share) / np.arcsinh(8.0)
    grey = (255.0 * share[::-1]).astype(np.uint8)
    return np.repeat(np.repeat(grey, ZOOM, axis=0), ZOOM, axis=1)


def _mark(picture: NDArray[np.uint8], x: int, y: int) -> None:
    """Draw two short lines beside the centre, in a colour distinguishable from grey without colour vision."""
    colour = np.array([230, 159, 0], dtype=np.uint8)
    picture[y - 1 : y + 1, x + 7 * ZOOM : x + 11 * ZOOM] = colour
    picture[y - 11 * ZOOM : y - 7 * ZOOM, x - 1 : x + 1] = colour

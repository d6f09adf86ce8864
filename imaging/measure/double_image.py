"""Recognise exposures whose stars have two images: the telescope jumped while the shutter was open."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

REACH = 12
"""Half size of the box around a star, pixels."""

NEAREST_PIXELS = 2.5
"""Least distance of two maxima of one star: nearer images are one elongated star, which the PSF model describes."""

LEAST_RATIO = 0.3
"""Least height of the second maximum over the first: the PSF model describes fainter ones."""

SCATTER_PIXELS = 1.0
"""Distance from their mean within which second images are at the same place, maxima being whole pixels."""

LEAST_STARS, LEAST_SHARE = 10, 0.5
"""Fewest stars with a second image at the same place, and least share of them: neighbours are anywhere."""


@dataclass(frozen=True, slots=True)
class DoubleImage:
    """The second image of the stars of a CCD.

    Attributes
    ----------
    dx, dy
        Its place relative to the first, pixels.
    share
        Its share of a star's light.
    n_stars, n_seen
        Number of stars that have it, and of all that were looked at.
    """

    dx: float
    dy: float
    share: float
    n_stars: int
    n_seen: int

    @property
    def distance_pixels(self) -> float:
        """Distance of the two images."""
        return float(np.hypot(self.dx, self.dy))


def find_double_image(
    science: FloatImage, good: FloatImage, x: FloatArray, y: FloatArray, peak: FloatArray
) -> DoubleImage | None:
    """Look for a second maximum at the same place beside most stars.

    Parameters
    ----------
    science
        (ny, nx) float32, sky subtracted.
    good
        (ny, nx), zero where a pixel is saturated or bad.
    x, y, peak
        (n,) pixels of unsaturated peaks, and their heights.

    Returns
    -------
    double
        The second image; None if stars have one image.
    """
    ny, nx = science.shape
    inside = (x >= REACH) & (y >= REACH) & (x < nx - REACH) & (y < ny - REACH)
    stamps = stamps_around(science, x[inside], y[inside], peak[inside])
    usable = (stamps_around(good, x[inside], y[inside], np.ones(inside.sum())) > 0).all(axis=(1, 2))
    stamps = stamps[usable & (stamps.max(axis=(1, 2), initial=0.0) <= 1.0)]
    if len(stamps) < LEAST_STARS:
        return None
    offsets = np.arange(-REACH, REACH + 1)
    far = np.hypot(offsets, offsets[:, None]) >= NEAREST_PIXELS
    heights = np.where((maximum_filter(stamps, (1, 3, 3)) == stamps) & far, stamps, 0.0).reshape(len(stamps), -1)
    second, ratio = np.argmax(heights, axis=1), heights.max(axis=1)
    has = ratio > LEAST_RATIO
    vectors = np.stack([second[has] % offsets.size - REACH, second[has] // offsets.size - REACH], axis=1).astype(float)
    ratio = ratio[has]
    near = _near(vectors)
    members = near[np.argmax(near.sum(axis=1))] if len(vectors) else has[:0]
    if members.sum() < max(LEAST_STARS, LEAST_SHARE * len(stamps)):
        return None
    # Where both images are equal, noise decides which is the first.
    sign = np.sign(vectors[members] @ vectors[members][0])
    dx, dy = (sign[:, None] * vectors[members]).mean(axis=0) * (1.0 if sign.sum() >= 0.0 else -1.0)
    share = float(np.median(ratio[members] / (1.0 + ratio[members])))
    return DoubleImage(float(dx), float(dy), share, int(members.sum()), len(stamps))


def stamps_around(image: FloatImage, x: FloatArray, y: FloatArray, peak: FloatArray) -> FloatArray:
    """Return boxes around pixels, over the peaks; what is outside the image repeats its border: (n, 25, 25)."""
    offsets = np.arange(-REACH, REACH + 1)
    rows = np.clip(y.astype(int)[:, None, None] + offsets[:, None], 0, image.shape[0] - 1)
    columns = np.clip(x.astype(int)[:, None, None] + offsets, 0, image.shape[1] - 1)
    return np.asarray(image[rows, columns] / peak[:, None, None])


def _near(vectors: FloatArray) -> NDArray[np.bool_]:
    """Whether vectors agree, up to their signs: (n, n)."""
    apart = [np.hypot(*(vectors[:, None] - sign * vectors).transpose(2, 0, 1)) for sign in (1.0, -1.0)]
    return np.asarray(np.minimum(*apart) <= SCATTER_PIXELS)

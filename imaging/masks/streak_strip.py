"""Straighten a strip of the image along a line, and take medians of signal to noise in pieces along it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

HALF_WIDTH = 24
"""Half width of the strip, samples."""
MINIMUM_PIECES = 6
"""Smallest number of pieces of a short line."""
MEDIAN_NOISE = 1.2533
"""Ratio of the noise of a median to that of a mean."""


@dataclass(frozen=True, slots=True)
class Course:
    """A parabola in the frame of a line: ``across = a + b * along + c * along^2``.

    Attributes
    ----------
    x, y
        Origin, pixels, 0-based.
    ux, uy
        Direction of the line, a unit vector; across is positive to its left.
    a, b, c
        Coefficients, pixels.
    """

    x: float
    y: float
    ux: float
    uy: float
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0

    def position(self, along: float) -> tuple[float, float]:
        """Return the pixel (x, y) at a distance along the line."""
        across = self.a + self.b * along + self.c * along**2
        return self.x + along * self.ux - across * self.uy, self.y + along * self.uy + across * self.ux

    def chord(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Return the limits along the line within which it is inside an image of this shape."""
        low, high = -np.inf, np.inf
        for origin, direction, size in ((self.x, self.ux, shape[1]), (self.y, self.uy, shape[0])):
            if abs(direction) < 1e-9:
                continue
            ends = sorted(((-0.5 - origin) / direction, (size - 0.5 - origin) / direction))
            low, high = max(low, ends[0]), min(high, ends[1])
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Strip:
    """Profiles across a course, in units of the pixel noise.

    Attributes
    ----------
    along
        (n,) middle of each piece along the line, pixels.
    profile
        (n, 2 HALF_WIDTH + 1) median over the piece at each distance; NaN where too few pixels are good.
    error
        (n,) error of one value of the profile.
    step
        Pixels per sample across.
    """

    along: NDArray[Any]
    profile: NDArray[Any]
    error: NDArray[Any]
    step: int

    @property
    def across(self) -> FloatArray:
        """Distances of the samples from the course, pixels."""
        return np.arange(-HALF_WIDTH, HALF_WIDTH + 1, dtype=float) * self.step


def straighten(
    image: tuple[FloatImage, FloatImage, NDArray[np.int16]],
    bits: int,
    course: Course,
    limits: tuple[float, float],
    piece_pixels: int,
    step: int,
) -> Strip:
    """Cut a strip along a course into pieces and take the median of each at every distance.

    Parameters
    ----------
    image
        Science, weight and mask, (ny, nx).
    bits
        Bits of ignored pixels.
    course
        The course.
    limits
        Start and end along the line, pixels.
    piece_pixels
        Length of a piece; a short line has shorter ones.
    step
        Pixels per sample across.

    Returns
    -------
    strip
        The profiles.
    """
    low, high = limits
    length = int(min(piece_pixels, max((high - low) / MINIMUM_PIECES, 8)))
    n = max(int((high - low) // length), 1)
    parameters = (course.x, course.y, course.ux, course.uy, course.a, course.b, course.c)
    profile, counts = _straighten(*image, np.int16(bits), parameters, low, n, length, step)
    typical = np.maximum(np.median(counts, axis=1), 1.0)
    along = low + (np.arange(n) + 0.5) * length
    return Strip(along, np.where(counts >= length // 3, profile, np.nan), MEDIAN_NOISE / np.sqrt(typical), step)


@njit(cache=True)
def _straighten(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    bits: int,
    course: tuple[float, float, float, float, float, float, float],
    low: float,
    n_pieces: int,
    length: int,
    step: int,
) -> Any:  # noqa: ANN401
    """Take medians of signal to noise along pieces of the strip: (n_pieces, 2 HALF_WIDTH + 1), and their counts."""
    ny, nx = science.shape
    x, y, ux, uy, a, b, c = course
    width = 2 * HALF_WIDTH + 1
    profile = np.zeros((n_pieces, width))
    counts = np.zeros((n_pieces, width), dtype=np.int64)
    values = np.empty(length, dtype=np.float32)
    for piece in range(n_pieces):
        for k in range(width):
            n = 0
            for i in range(length):
                along = low + piece * length + i + 0.5
                across = a + (b + c * along) * along + (k - HALF_WIDTH) * step
                u = int(np.floor(x + along * ux - across * uy + 0.5))
                v = int(np.floor(y + along * uy + across * ux + 0.5))
                if 0 <= u < nx and 0 <= v < ny and weight[v, u] > 0 and (mask[v, u] & bits) == 0:
                    values[n] = science[v, u] * np.sqrt(weight[v, u])
                    n += 1
            counts[piece, k] = n
            if n > 0:
                profile[piece, k] = np.median(values[:n])
    return profile, counts


def without_sides(profile: FloatArray, fwhm_samples: float | None) -> FloatArray:
    """Subtract the mean of the levels to the left and right of the streak."""
    left, right = _side_levels(profile, fwhm_samples)
    level = np.where(np.isnan(left), right, np.where(np.isnan(right), left, 0.5 * (left + right)))
    return profile - level[:, None]


def _side_levels(profile: FloatArray, fwhm_samples: float | None) -> list[FloatArray]:
    """Return the levels to the left and to the right of the streak for each piece; NaN if masked."""
    inner = HALF_WIDTH // 2 if fwhm_samples is None else min(int(np.ceil(1.5 * fwhm_samples)), HALF_WIDTH - 5)
    levels = []
    for side in (profile[:, : HALF_WIDTH - inner], profile[:, HALF_WIDTH + inner + 1 :]):
        known = np.isfinite(side).sum(axis=1) >= 3
        level = np.full(len(profile), np.nan)
        level[known] = np.nanmedian(side[known], axis=1)
        levels.append(level)
    return levels


def step_across(profile: FloatArray, fwhm_samples: float) -> float:
    """Return the difference between the two sides of a streak, median over the pieces."""
    left, right = _side_levels(profile, fwhm_samples)
    known = np.isfinite(left) & np.isfinite(right)
    return float(abs(np.median((right - left)[known]))) if known.any() else 0.0


def smooth(profile: FloatArray, size: int = 5) -> FloatArray:
    """Average over neighbouring distances."""
    padded = np.pad(profile, ((0, 0), (size // 2, size // 2)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, size, axis=1).mean(axis=2)

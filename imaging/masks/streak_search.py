"""Detect straight lines on a binned image by a Radon transform of clipped signal to noise in windows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from imaging.masks.settings import StreakSettings

FloatImage = NDArray[np.float32]

N_ANGLES = 256
"""Directions over 180 degrees: steps of 0.7 degrees move the end of a half window of 64 bins by less than a bin."""
LEVEL_BINS = 31
"""Side of the box whose mean is subtracted; halos and sky residuals are wider."""
CANDIDATES_PER_WINDOW = 4
SUPPRESSED = (10, 6)
"""Half widths in angle and distance of the cells around a candidate that count as the same line."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line in a window: a point on it, its direction, its significance.

    Attributes
    ----------
    x, y
        Middle of the line inside the window, pixels, 0-based.
    angle
        Direction against the x axis, radians.
    reach
        Half length of the line inside the window, pixels.
    sigma
        Significance.
    """

    x: float
    y: float
    angle: float
    reach: float
    sigma: float


def search_lines(
    science: FloatImage, weight: FloatImage, mask: NDArray[np.int16], bits: int, settings: StreakSettings
) -> list[Candidate]:
    """Find lines on the binned image, the most significant first.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons, sky subtracted.
    weight
        (ny, nx) float32, inverse variance.
    mask
        (ny, nx) int16.
    bits
        Bits of ignored pixels.
    settings
        Binning, clipping, threshold.

    Returns
    -------
    candidates
        Lines above the threshold.
    """
    values, valid = binned_signal(science, weight, mask, bits, settings)
    found = []
    side = settings.window_bins
    for y0 in range(0, values.shape[0], side):
        for x0 in range(0, values.shape[1], side):
            window = (slice(y0, y0 + side), slice(x0, x0 + side))
            found += _search_window(values[window], valid[window], (y0, x0), settings)
    return sorted(found, key=lambda candidate: -candidate.sigma)


def binned_signal(
    science: FloatImage, weight: FloatImage, mask: NDArray[np.int16], bits: int, settings: StreakSettings
) -> tuple[FloatImage, NDArray[np.bool_]]:
    """Bin to signal over noise, clip, subtract the local mean, and scale to unit variance.

    Returns
    -------
    values
        (ny / b, nx / b) float32; zero where not valid.
    valid
        (ny / b, nx / b) bool, at least half of whose pixels are good.
    """
    signal, valid = _bin(science, weight, mask, np.int16(bits), settings.bin_pixels)
    if not valid.any():
        return signal, valid
    clipped = np.clip(signal, -settings.clip_sigma, settings.clip_sigma)
    share = uniform_filter(valid.astype(np.float32), LEVEL_BINS, mode="constant")
    level = uniform_filter(np.where(valid, clipped, 0.0).astype(np.float32), LEVEL_BINS, mode="constant")
    values = np.where(valid, clipped - level / np.maximum(share, 1e-3), 0.0).astype(np.float32)
    return values / max(float(values[valid].std()), 1e-3), valid


@njit(cache=True)
def _bin(science: FloatImage, weight: FloatImage, mask: NDArray[np.int16], bits: int, size: int) -> Any:  # noqa: ANN401
    ny, nx = science.shape[0] // size, science.shape[1] // size
    total = np.zeros((ny, nx), dtype=np.float32)
    weights = np.zeros((ny, nx), dtype=np.float32)
    counts = np.zeros((ny, nx), dtype=np.int32)
    for y in range(ny * size):
        row = y // size
        for column in range(nx):
            signal, w_sum, n = total[row, column], weights[row, column], 0
            for x in range(column * size, (column + 1) * size):
                w = weight[y, x]
                if w > 0 and (mask[y, x] & bits) == 0:
                    signal += w * science[y, x]
                    w_sum += w
                    n += 1
            total[row, column], weights[row, column] = signal, w_sum
            counts[row, column] += n
    valid = np.zeros((ny, nx), dtype=np.bool_)
    for y in range(ny):
        for x in range(nx):
            if 2 * counts[y, x] >= size * size:
                valid[y, x] = True
                total[y, x] /= np.sqrt(weights[y, x])
            else:
                total[y, x] = 0.0
    return total, valid


def _search_window(
    values: FloatImage, valid: NDArray[np.bool_], corner: tuple[int, int], settings: StreakSettings
) -> list[Candidate]:
    """Transform one window and return its highest peaks."""
    ny, nx = values.shape
    sums, counts = _radon(np.ascontiguousarray(values), np.ascontiguousarray(valid))
    minimum = settings.minimum_length_pixels[0] / settings.bin_pixels
    sigma = np.where(counts >= minimum, sums / np.sqrt(np.maximum(counts, 1.0)), 0.0)
    found = []
    for _ in range(CANDIDATES_PER_WINDOW):
        k, r = np.unravel_index(int(np.argmax(sigma)), sigma.shape)
        peak = float(sigma[k, r])
        if peak < settings.detect_sigma:
            break
        angle = np.pi * k / N_ANGLES
        distance = r - (sigma.shape[1] - 1) / 2
        u, v = _middle(angle, distance, (0.5 * nx, 0.5 * ny))
        x, y = (nx - 1) / 2 + u + corner[1], (ny - 1) / 2 + v + corner[0]
        size = settings.bin_pixels
        reach = 0.5 * float(counts[k, r]) * size
        found.append(Candidate((x + 0.5) * size - 0.5, (y + 0.5) * size - 0.5, float(angle), reach, peak))
        _suppress(sigma, int(k), int(r))
    return found


def _middle(angle: float, distance: float, half: tuple[float, float]) -> tuple[float, float]:
    """Return the middle of a line inside a box about the origin; a line through a corner is nearest to it outside."""
    # The normal of a line with direction a is (-sin a, cos a).
    direction, foot = (np.cos(angle), np.sin(angle)), (-distance * np.sin(angle), distance * np.cos(angle))
    ends = [
        sorted(((-size - place) / d, (size - place) / d))
        for place, d, size in zip(foot, direction, half, strict=True)
        if abs(d) > 1e-9
    ]
    along = 0.5 * (max(low for low, _ in ends) + min(high for _, high in ends))
    return foot[0] + along * direction[0], foot[1] + along * direction[1]


def _suppress(sigma: NDArray[np.float32], k: int, r: int) -> None:
    """Clear the cells around a peak; the direction is cyclic, with a change of sign of the distance."""
    for dk in range(-SUPPRESSED[0], SUPPRESSED[0] + 1):
        row, column = k + dk, r
        if not 0 <= row < N_ANGLES:
            row, column = row % N_ANGLES, sigma.shape[1] - 1 - r
        sigma[row, max(column - SUPPRESSED[1], 0) : column + SUPPRESSED[1] + 1] = 0.0


@njit(cache=True)
def _radon(values: FloatImage, valid: NDArray[np.bool_]) -> Any:  # noqa: ANN401
    """Sum values and count bins along lines: (n_angles, n_distances) about the window's centre."""
    ny, nx = values.shape
    half = int(np.ceil(0.5 * np.hypot(ny, nx))) + 1
    sums = np.zeros((N_ANGLES, 2 * half + 1), dtype=np.float32)
    counts = np.zeros((N_ANGLES, 2 * half + 1), dtype=np.float32)
    xs = np.empty(values.size, dtype=np.float32)
    ys = np.empty(values.size, dtype=np.float32)
    vs = np.empty(values.size, dtype=np.float32)
    n = 0
    for y in range(ny):
        for x in range(nx):
            if valid[y, x]:
                xs[n], ys[n], vs[n] = x - 0.5 * (nx - 1), y - 0.5 * (ny - 1), values[y, x]
                n += 1
    for k in range(N_ANGLES):
        sine, cosine = np.float32(np.sin(np.pi * k / N_ANGLES)), np.float32(np.cos(np.pi * k / N_ANGLES))
        offset = np.float32(half + 0.5)
        total, number = sums[k], counts[k]
        for i in range(n):
            r = int(ys[i] * cosine - xs[i] * sine + offset)
            total[r] += vs[i]
            number[r] += np.float32(1.0)
    return sums, counts

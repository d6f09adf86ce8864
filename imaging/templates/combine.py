"""Average images on one grid with rejection of outliers."""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from imaging.bits import MaskBit
from imaging.image import FloatImage, MaskImage
from imaging.templates.resample import Resampled
from imaging.templates.settings import StackSettings

FloatArray = NDArray[np.float64]

BAND, HALO = 128, 5
"""Rows averaged at once, and margin of rows for the rejection of outliers."""

SUSPECT_SHARE = np.float32(0.6)
"""Fraction of the noise tolerance above which pixels beside an outlier are rejected too."""

NEAR = 3
"""Distance within which the brightest pixel tells how much light of a source the inputs can disagree on, pixels."""

PSF_RADIUS = 10
"""Radius within which the inputs' PSFs are compared, pixels."""


def psf_contrasts(stamps: FloatArray) -> FloatArray:
    """Return by how much the PSF of every input differs from those of the others.

    Parameters
    ----------
    stamps
        (n, k, k) PSF of each input.

    Returns
    -------
    contrasts
        (n,) the largest difference from another one, in units of the lower of the two within :data:`NEAR` pixels. Where
        a star is in the inputs, their pixels differ by no more than this times the brightest pixel near by.
    """
    half = stamps.shape[1] // 2
    reach = min(PSF_RADIUS, half)
    core = (slice(None), *(slice(half - reach, half + reach + 1),) * 2)
    inner, near = stamps[core], maximum_filter(stamps, size=(1, 2 * NEAR + 1, 2 * NEAR + 1))[core]
    lower = np.minimum(near[:, None], near[None])
    difference = np.abs(inner[:, None] - inner[None])
    inside = (np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach) & (lower > 0)
    return np.divide(difference, lower, out=np.zeros_like(difference), where=inside).max(axis=(1, 2, 3))


def combine(
    planes: Sequence[Resampled], scales: FloatArray, settings: StackSettings, contrasts: FloatArray | None = None
) -> tuple[FloatImage, MaskImage, FloatImage, NDArray[np.int64]]:
    """Average images on one grid.

    Parameters
    ----------
    planes
        Images on one grid.
    scales
        (n,) factors to a common zero point.
    settings
        Tolerances of the clipping.
    contrasts
        (n,) differences of the inputs' PSFs (:func:`psf_contrasts`); None if they have the same.

    Returns
    -------
    science, mask, weight
        The stack; mask bits are those of the inputs' common defects, EDGE where there is no input, TAPEBUMP where any
        input has it.
    clipped
        (n,) number of rejected pixels per input.
    """
    factors = scales.astype(np.float32)
    tolerances = tuple(np.float32(t) for t in (settings.clip_sigma, settings.clip_gradient, settings.clip_fraction))
    seeing = np.zeros(len(planes), dtype=np.float32) if contrasts is None else contrasts.astype(np.float32)
    ny, nx = planes[0].science.shape
    total, total_weight = (np.empty((ny, nx), dtype=np.float32) for _ in range(2))
    bits = np.empty((ny, nx), dtype=np.int16)
    clipped = np.zeros(len(planes), dtype=np.int64)
    for first in range(0, ny, BAND):
        last = min(first + BAND, ny)
        below, above = max(first - HALO, 0), min(last + HALO, ny)
        science = np.stack([p.science[below:above] for p in planes])
        weight = np.stack([p.weight[below:above] for p in planes])
        inner, band = slice(first - below, last - below), slice(first, last)
        if len(planes) > 1:
            middle = _median(science, weight, factors)
            clipped += _clip(science, weight, factors, middle, seeing, *tolerances, inner.start, inner.stop)
        total[band], total_weight[band] = _mean(science[:, inner], weight[:, inner], factors)
        bits[band] = _combine_masks([p.mask[band] for p in planes], total_weight[band] == 0)
    return total, bits, total_weight, clipped


def _combine_masks(masks: Sequence[MaskImage], lost: NDArray[np.bool_]) -> MaskImage:
    """Return the inputs' common defects where no input is used, and their common suspect bits elsewhere.

    A tape bump of any input glows in the stack.
    """
    bits = np.bitwise_and.reduce(masks)
    everywhere = np.bitwise_or.reduce(masks)
    bits[~lost] &= np.int16(MaskBit.STAR | MaskBit.SUSPECT)
    bits[lost & (bits == 0)] = everywhere[lost & (bits == 0)]
    bits[lost & (bits == 0)] = np.int16(MaskBit.BPM)
    bits |= everywhere & np.int16(MaskBit.TAPEBUMP)
    return bits


@numba.njit(cache=True)
def _median(science: FloatImage, weight: FloatImage, scales: FloatImage) -> FloatImage:
    """Return the median of the inputs' good pixels; the lower one of two."""
    n, ny, nx = science.shape
    out = np.zeros((ny, nx), dtype=np.float32)
    values = np.empty(n, dtype=np.float32)
    for j in range(ny):
        for i in range(nx):
            if n == 3 and weight[0, j, i] > 0 and weight[1, j, i] > 0 and weight[2, j, i] > 0:
                a, b, c = science[0, j, i] * scales[0], science[1, j, i] * scales[1], science[2, j, i] * scales[2]
                out[j, i] = max(min(a, b), min(max(a, b), c))
                continue
            count = 0
            for k in range(n):
                if weight[k, j, i] > 0:
                    value = science[k, j, i] * scales[k]
                    position = count
                    while position > 0 and values[position - 1] > value:
                        values[position] = values[position - 1]
                        position -= 1
                    values[position] = value
                    count += 1
            if count == 0:
                continue
            if count % 2 == 1:
                out[j, i] = values[count // 2]
            elif count == 2:
                out[j, i] = values[0]
            else:
                out[j, i] = np.float32(0.5) * (values[count // 2 - 1] + values[count // 2])
    return out


@numba.njit(cache=True)
def _clip(
    science: FloatImage,
    weight: FloatImage,
    scales: FloatImage,
    middle: FloatImage,
    seeing: FloatImage,
    n_sigma: np.float32,
    gradient: np.float32,
    fraction: np.float32,
    first: int,
    last: int,
) -> NDArray[np.int64]:
    """Set the weight of outliers, and of less deviant adjacent pixels, to zero.

    Return their numbers in rows ``first`` to ``last``.
    """
    n, ny, nx = science.shape
    counts = np.zeros(n, dtype=np.int64)
    factor = n_sigma if n > 2 else np.float32(1.4) * n_sigma
    outlier = np.zeros((ny, nx), dtype=np.uint8)
    for k in range(n):
        _find_outliers(outlier, science[k], weight[k], scales[k], middle, factor, gradient, fraction, seeing[k])
        counts[k] = _remove_outliers(outlier, weight[k], first, last)
    return counts


@numba.njit(cache=True)
def _find_outliers(
    outlier: NDArray[np.uint8],
    science: FloatImage,
    weight: FloatImage,
    scale: np.float32,
    middle: FloatImage,
    n_sigma: np.float32,
    gradient: np.float32,
    fraction: np.float32,
    contrast: np.float32,
) -> None:
    """Mark outliers with 2 and suspect pixels beside one with 1."""
    ny, nx = science.shape
    outlier[:] = 0
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            w = weight[j, i]
            if w <= 0:
                continue
            level = middle[j, i]
            deviation = abs(science[j, i] * scale - level)
            noise = n_sigma * scale * np.sqrt(np.float32(1.0) / w + max(level, np.float32(0.0)) / scale)
            if deviation <= SUSPECT_SHARE * noise:
                continue
            around = middle[j - 1 : j + 2, i - 1 : i + 2]
            allowance = gradient * (around.max() - around.min()) + fraction * abs(level)
            if deviation > SUSPECT_SHARE * noise + allowance:
                wide = middle[max(j - NEAR, 0) : j + NEAR + 1, max(i - NEAR, 0) : i + NEAR + 1]
                allowance += contrast * max(wide.max(), np.float32(0.0))
            if deviation > noise + allowance:
                outlier[j, i] = 2
            elif deviation > SUSPECT_SHARE * noise + allowance:
                outlier[j, i] = 1


@numba.njit(cache=True)
def _remove_outliers(outlier: NDArray[np.uint8], weight: FloatImage, first: int, last: int) -> int:
    ny, nx = outlier.shape
    count = 0
    for j in range(max(first, 1), min(last, ny - 1)):
        for i in range(1, nx - 1):
            if outlier[j, i] == 2:
                weight[j, i] = 0
                count += 1
            elif outlier[j, i] == 1 and outlier[j - 1 : j + 2, i - 1 : i + 2].max() == 2:
                weight[j, i] = 0
    return count


@numba.njit(cache=True)
def _mean(science: FloatImage, weight: FloatImage, scales: FloatImage) -> tuple[FloatImage, FloatImage]:
    n, ny, nx = science.shape
    out = np.zeros((ny, nx), dtype=np.float32)
    out_weight = np.zeros((ny, nx), dtype=np.float32)
    for j in range(ny):
        for i in range(nx):
            total, norm = np.float32(0.0), np.float32(0.0)
            fallback, count = np.float32(0.0), 0
            for k in range(n):
                value = science[k, j, i] * scales[k]
                w = weight[k, j, i] / (scales[k] * scales[k])
                total += w * value
                norm += w
                if value != 0:
                    fallback += value
                    count += 1
            if norm > 0:
                out[j, i] = total / norm
                out_weight[j, i] = norm
            elif count > 0:
                out[j, i] = fallback / count
    return out, out_weight

"""Interpolate defects before resampling or convolution, and grow masks after it."""

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit

FloatImage = NDArray[np.float32]
MaskImage = NDArray[np.int16]

REPAIRABLE = MaskBit.BPM | MaskBit.CRAY | MaskBit.TRAIL
"""Mask bits of defects that are narrow along the row and can be interpolated from both sides."""


def repair_rows(science: FloatImage, mask: MaskImage, max_gap: int = 12, bits: int = int(REPAIRABLE)) -> FloatImage:
    """Interpolate narrow defects along the rows, to avoid ringing in the resampling.

    Parameters
    ----------
    science
        (ny, nx) float32.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    max_gap
        Widest gap to interpolate, pixels; wider ones keep their values, and non-finite values become zero.
    bits
        Mask bits of the defects.

    Returns
    -------
    repaired
        A copy, linear between the nearest usable pixels on both sides of each gap.
    """
    repaired = science.copy()
    _repair_rows(repaired, mask, np.int16(bits), np.int16(int(NO_WEIGHT)), max_gap)
    return repaired


def grow_bits(mask: MaskImage, radius: int) -> MaskImage:
    """Grow every bit over a square of half width ``radius`` pixels."""
    if radius == 0:
        return mask.copy()
    return _grow(mask, radius)


@numba.njit(cache=True)
def changed_places(before: MaskImage, after: MaskImage) -> NDArray[np.int32]:
    """Return (n,) int32, the flat indices at which two masks differ."""
    first, second = before.ravel(), after.ravel()
    count = 0
    for k in range(first.size):
        count += first[k] != second[k]
    places = np.empty(count, dtype=np.int32)
    count = 0
    for k in range(first.size):
        if first[k] != second[k]:
            places[count] = k
            count += 1
    return places


@numba.njit(cache=True)
def _repair_rows(science: FloatImage, mask: MaskImage, bits: np.int16, stopping: np.int16, max_gap: int) -> None:
    ny, nx = science.shape
    for j in range(ny):
        i = 0
        while i < nx:
            bad = (mask[j, i] & bits) != 0
            if not np.isfinite(science[j, i]):
                science[j, i] = 0.0
            if not bad:
                i += 1
                continue
            start = i
            while i < nx and (mask[j, i] & stopping) != 0:
                if not np.isfinite(science[j, i]):
                    science[j, i] = 0.0
                i += 1
            left = start - 1
            while left >= 0 and (mask[j, left] & stopping) != 0:
                left -= 1
            if left < 0 and i >= nx:
                continue
            if i - left - 1 > max_gap:
                continue
            low = science[j, left] if left >= 0 else science[j, i]
            high = science[j, i] if i < nx else low
            for k in range(left + 1, i):
                science[j, k] = low + (high - low) * np.float32((k - left) / (i - left))


@numba.njit(cache=True)
def _grow(mask: MaskImage, radius: int) -> MaskImage:
    """Grow bits along the rows, then over neighbouring rows, keeping only the rows still needed."""
    ny, nx = mask.shape
    size = 2 * radius + 1
    out = np.empty_like(mask)
    wide = np.zeros((size, nx), dtype=mask.dtype)
    line = np.zeros(nx + 2 * radius, dtype=mask.dtype)
    middle = line[radius:]
    for j in range(-radius, ny):
        grown = wide[(j + radius) % size]
        grown[:] = 0
        if j + radius < ny:
            values = mask[j + radius]
            for i in range(nx):
                middle[i] = values[i]
            for k in range(size):
                _join(grown, line[k:])
        if j >= 0:
            target = out[j]
            target[:] = 0
            for k in range(size):
                _join(target, wide[k])
    return out


@numba.njit(cache=True)
def _join(target: MaskImage, values: MaskImage) -> None:
    for i in range(target.size):
        target[i] |= values[i]

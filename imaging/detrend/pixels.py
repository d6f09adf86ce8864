"""Pixel arithmetic of detrending, as Numba kernels that pass once over the half CCD of one amplifier.

All change arrays in place. Signals are ADU above the overscan until the gain is applied, electrons afterwards.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import MaskBit, bpm_to_mask

CONVERTER_CEILING_ADU = 65535
"""Largest value of the 16-bit converter, returned for all higher signals."""

_SATURATE, _BPM, _SSXTALK = int(MaskBit.SATURATE), int(MaskBit.BPM), int(MaskBit.SSXTALK)


BPM_TRANSLATION = bpm_to_mask(np.arange(1 << 15))
"""(32768,) int16: image mask bits of every combination of calibration bits."""


@njit(cache=True)
def subtract_overscan(
    pixels: NDArray[np.uint16],
    first_row: int,
    first_column: int,
    levels: NDArray[np.float32],
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    column: int,
    width: int,
) -> None:
    """Subtract each row's overscan level, and mask pixels beyond the range of the converter.

    Parameters
    ----------
    pixels
        (rows, columns) uint16, raw array.
    first_row, first_column
        Corner of the amplifier's data in it.
    levels
        (ny,) float32, ADU.
    science, mask
        (ny, nx) trimmed CCD, filled from ``column`` over ``width`` columns.
    column, width
        The amplifier's columns.
    """
    for y in range(levels.size):
        source = pixels[first_row + y, first_column : first_column + width]
        target = science[y, column : column + width]
        bits = mask[y, column : column + width]
        level = levels[y]
        for x in range(width):
            target[x] = np.float32(source[x]) - level
            if source[x] >= CONVERTER_CEILING_ADU:
                bits[x] |= _SATURATE


@njit(cache=True)
def _polynomial(coefficients: NDArray[np.float64], excess: float) -> float:
    """Evaluate a polynomial without constant term, first power first."""
    value = 0.0
    for n in range(coefficients.size - 1, -1, -1):
        value = (value + coefficients[n]) * excess
    return value


@njit(cache=True)
def subtract_crosstalk(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    column: int,
    source: NDArray[np.uint16],
    corner: tuple[int, int],
    levels: NDArray[np.float32],
    width: int,
    mirrored: bool,
    limits: tuple[float, float, float, float],
    polynomial: NDArray[np.float64],
) -> float:
    """Subtract the crosstalk of one amplifier into another.

    Up to the onset the victim received ``coefficient`` times the source's signal s, above it ``coefficient * onset +
    sum_n polynomial[n] (s - onset)^(n + 1)`` (the observatory's crosstalk model of 2013).

    Parameters
    ----------
    science, mask
        (ny, nx) the victim CCD, ADU.
    column
        First column of the victim's amplifier.
    source
        (rows, columns) uint16, raw array of the source CCD.
    corner
        (row, column) of the source amplifier's data in it.
    levels
        (ny,) float32, overscan levels of the source amplifier, ADU.
    width
        Columns of an amplifier.
    mirrored
        Whether the two amplifiers are read in opposite directions.
    limits
        Coefficient; onset of non-linearity and saturation level of the source, ADU; correction in ADU beyond which a
        pixel under a saturated source is flagged SSXTALK.
    polynomial
        (n,) float64, the term beyond the onset, first power first.

    Returns
    -------
    largest
        Largest correction, ADU, absolute.
    """
    coefficient, onset, saturation, _ = limits
    slope, largest = np.float32(coefficient), 0.0
    for y in range(levels.size):
        raw = source[corner[0] + y, corner[1] : corner[1] + width]
        target, level = science[y, column : column + width], levels[y]
        for x in range(width if mirrored else 0):
            target[x] -= slope * (np.float32(raw[width - 1 - x]) - level)
        for x in range(0 if mirrored else width):
            target[x] -= slope * (np.float32(raw[x]) - level)
        peak = float(raw.max()) - level
        largest = max(largest, abs(coefficient) * min(peak, onset))
        if peak > min(onset, saturation):
            bits = mask[y, column : column + width]
            largest = max(largest, _bright_crosstalk(target, bits, raw, level, mirrored, limits, polynomial))
    return largest


@njit(cache=True)
def _bright_crosstalk(
    target: NDArray[np.float32],
    bits: NDArray[np.int16],
    raw: NDArray[np.uint16],
    level: float,
    mirrored: bool,
    limits: tuple[float, float, float, float],
    polynomial: NDArray[np.float64],
) -> float:
    """Correct one row for the non-linear part of its crosstalk and flag it; return the largest correction."""
    coefficient, onset, saturation, flag_above = limits
    largest = 0.0
    for x in range(target.size):
        signal = float(raw[target.size - 1 - x if mirrored else x]) - level
        received = coefficient * signal
        if signal > onset:
            received = coefficient * onset + _polynomial(polynomial, signal - onset)
            target[x] -= np.float32(received - coefficient * signal)
            largest = max(largest, abs(received))
        if signal >= saturation and abs(received) > flag_above:
            bits[x] |= _SSXTALK
    return largest


@njit(cache=True)
def correct_response(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    bias: NDArray[np.float32],
    bad_pixels: NDArray[np.int16],
    translation: NDArray[np.int16],
    column: int,
    width: int,
    first_adu: int,
    corrections: NDArray[np.float32],
    saturation: float,
    gain: float,
) -> None:
    """Subtract the bias, linearise, mask saturated and bad pixels, and convert to electrons, in one pass.

    Parameters
    ----------
    science, mask
        (ny, nx) the CCD, ADU in, electrons out.
    bias
        (ny, nx) float32, ADU; (0, 0) for none. Pixels that are not finite are masked as bad.
    bad_pixels
        (ny, nx) int16, calibration bits; (0, 0) for none.
    translation
        (32768,) int16, from calibration bits to mask bits.
    column, width
        The amplifier's columns.
    first_adu, corrections
        Linearity: correction to add at ``first_adu``, ``first_adu + 1``, ... ADU, interpolated; empty for none.
    saturation
        ADU above which a pixel is saturated.
    gain
        Electrons per ADU.
    """
    has_bias, has_bad_pixels, last = bias.size > 0, bad_pixels.size > 0, corrections.size - 1
    first, threshold, factor = np.float32(first_adu), np.float32(saturation), np.float32(gain)
    for y in range(science.shape[0]):
        row = science[y, column : column + width]
        bits = mask[y, column : column + width]
        if has_bias:
            _subtract_bias(row, bits, bias[y, column : column + width])
        if last > 0:
            for x in range(width):
                position = row[x] - first
                if position >= 0 and position < last:
                    index = int(position)
                    below = corrections[index]
                    row[x] += below + (position - np.float32(index)) * (corrections[index + 1] - below)
        for x in range(width):
            if row[x] >= threshold:
                bits[x] |= _SATURATE
            row[x] *= factor
        if has_bad_pixels:
            code = bad_pixels[y, column : column + width]
            for x in range(width):
                if code[x] != 0:
                    bits[x] |= translation[code[x] & 0x7FFF]


@njit(cache=True)
def _subtract_bias(row: NDArray[np.float32], bits: NDArray[np.int16], level: NDArray[np.float32]) -> None:
    """Subtract the bias from one row; pixels whose bias is not finite are masked as bad."""
    for x in range(row.size):
        if np.isfinite(level[x]):
            row[x] -= level[x]
        else:
            bits[x] |= _BPM


@njit(cache=True)
def divide_flat(science: NDArray[np.float32], mask: NDArray[np.int16], flat: NDArray[np.float32]) -> int:
    """Divide by a flat; pixels whose flat is not positive are unchanged and masked as bad.

    Parameters
    ----------
    science, mask
        (ny, nx) the CCD; changed.
    flat
        (ny, nx) float32.

    Returns
    -------
    n_bad
        Pixels without a positive flat.
    """
    n_bad = 0
    for y in range(science.shape[0]):
        row, bits, response = science[y], mask[y], flat[y]
        for x in range(row.size):
            if 0 < response[x] < np.inf:
                row[x] /= response[x]
            else:
                bits[x] |= _BPM
                n_bad += 1
    return n_bad

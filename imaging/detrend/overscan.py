"""Bias level and read noise of an amplifier from its overscan columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.interpolate import LSQUnivariateSpline

from imaging.detector.sections import Section
from imaging.detrend.settings import DetrendSettings
from imaging.numerics.robust import clipped_mean


@dataclass(frozen=True, eq=False)
class Overscan:
    """The overscan of one amplifier.

    Attributes
    ----------
    levels_adu
        (ny,) float32, level to subtract from each row of the data section.
    level_adu
        Median level.
    noise_adu
        Standard deviation of a pixel about its row: the read noise.
    row_noise_adu
        (ny,) float32, standard deviation within each row.
    """

    levels_adu: NDArray[np.float32]
    level_adu: float
    noise_adu: float
    row_noise_adu: NDArray[np.float32]


def measure_overscan(pixels: NDArray[np.uint16], section: Section, settings: DetrendSettings) -> Overscan:
    """Measure the overscan row by row.

    Pixels farther from their row's median than the clipping limit, in units of the amplifier's read noise, are
    rejected.

    Parameters
    ----------
    pixels
        (ny, nx) uint16, raw array.
    section
        Section of the overscan.
    settings
        Method, trimming, clipping.

    Returns
    -------
    overscan
        Levels and noise.
    """
    trim = min(settings.overscan_trim_columns, (section.x1 - section.x0 - 4) // 2)
    block = np.ascontiguousarray(pixels[section.y0 : section.y1, section.x0 + trim : section.x1 - trim])
    distance = settings.overscan_clip_sigma * max(_first_noise(block), 0.5)
    means, medians, squares, counts = _row_statistics(block, distance)
    freedom = int(np.sum(np.maximum(counts - 1, 0)))
    noise = float(np.sqrt(squares.sum() / freedom)) if freedom > 0 else 0.0
    levels = medians if settings.overscan_method == "median" else means
    if settings.overscan_method == "spline":
        levels = _smooth(levels, settings.overscan_spline_rows, noise / np.sqrt(block.shape[1]))
    row_noise = np.sqrt(squares / np.maximum(counts - 1, 1))
    return Overscan(levels.astype(np.float32), float(np.median(levels)), noise, row_noise.astype(np.float32))


def _first_noise(block: NDArray[np.uint16]) -> float:
    """Estimate the noise from the differences of neighbouring pixels, independent of the level."""
    sample = block[:: max(block.shape[0] // 512, 1)].astype(float)
    return clipped_mean(np.diff(sample, axis=1).ravel(), 4.0)[1] / np.sqrt(2.0)


@njit(cache=True)
def _row_statistics(block: NDArray[np.uint16], distance: float) -> Any:  # noqa: ANN401
    """Clip each row about its median: means, medians, sums of squared deviations and counts of the kept pixels."""
    ny, nx = block.shape
    means = np.empty(ny)
    medians = np.empty(ny)
    squares = np.empty(ny)
    counts = np.empty(ny, dtype=np.int64)
    row = np.empty(nx, dtype=np.int64)
    for y in range(ny):
        for x in range(nx):
            value, i = np.int64(block[y, x]), x
            while i > 0 and row[i - 1] > value:
                row[i] = row[i - 1]
                i -= 1
            row[i] = value
        median = 0.5 * (float(row[(nx - 1) // 2]) + float(row[nx // 2]))
        total, total_of_squares, count = 0.0, 0.0, 0
        for x in range(nx):
            deviation = row[x] - median
            if abs(deviation) <= distance:
                total += deviation
                total_of_squares += deviation * deviation
                count += 1
        mean = total / count if count else 0.0
        means[y] = median + mean
        medians[y] = median
        squares[y] = total_of_squares - count * mean * mean
        counts[y] = count
    return means, medians, squares, counts


def _smooth(levels: NDArray[np.float64], rows_per_knot: int, error: float) -> NDArray[np.float64]:
    """Fit a cubic spline over the rows, rejecting rows that deviate by more than five errors."""
    rows = np.arange(levels.size, dtype=float)
    keep = np.ones(levels.size, dtype=bool)
    knots = np.arange(rows_per_knot, levels.size - rows_per_knot, rows_per_knot, dtype=float)
    smooth = levels
    for _ in range(3):
        filled = np.where(keep, levels, smooth)
        smooth = LSQUnivariateSpline(rows, filled, knots)(rows)
        new = np.abs(levels - smooth) <= 5.0 * max(error, 0.05)
        if np.array_equal(new, keep):
            break
        keep = new
    return smooth

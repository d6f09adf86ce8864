"""Numba kernels that draw PSF stamps, equivalent to :meth:`imaging.psf.model.PsfModel.stamp`."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.psf.model import BINOMIALS, TAPS

FloatArray = NDArray[np.float64]


@njit(cache=True)
def position_terms(
    x: float, y: float, degree: int, origin: tuple[float, float], scale: tuple[float, float]
) -> FloatArray:
    """Evaluate the monomials of the PSF's polynomial at a position, in the order of the coefficient images."""
    u, v = (x - origin[0]) / scale[0], (y - origin[1]) / scale[1]
    terms = np.empty((degree + 1) * (degree + 2) // 2)
    k = 0
    for j in range(degree + 1):
        for i in range(degree + 1 - j):
            terms[k] = u**i * v**j
            k += 1
    return terms


@njit(cache=True)
def local_samples(coefficients: NDArray[np.float32], terms: FloatArray, reach: int) -> NDArray[np.float32]:
    """Sum the coefficient images to the finely sampled PSF of one position.

    Parameters
    ----------
    coefficients
        (n_terms, n, n) float32.
    terms
        (n_terms,) monomials of the position.
    reach
        Samples to keep on either side of the centre.

    Returns
    -------
    samples
        (m, m) float32, m = min(2 reach + 1, n), centred.
    """
    n = coefficients.shape[1]
    reach = min(reach, (n - 1) // 2)
    first = (n - 1) // 2 - reach
    m = 2 * reach + 1
    samples = np.zeros((m, m), np.float32)
    for k in range(terms.size):
        weight = np.float32(terms[k])
        for j in range(m):
            row, source = samples[j], coefficients[k, first + j, first : first + m]
            for i in range(m):
                row[i] += weight * source[i]
    return samples


@njit(cache=True)
def interpolation_weights(offset: float, step: float, n: int, taps: FloatArray) -> int:
    """Fill the weights that interpolate a centred grid of spacing ``step`` at ``offset``; return the first index.

    They are those of the polynomial of degree seven through the eight nearest samples (Lagrange, in the barycentric
    form of Berrut and Trefethen 2004, SIAM Review 46, 501); all are zero outside the grid.
    """
    position = offset / step + (n - 1) / 2
    first = min(max(int(np.floor(position)) - TAPS // 2 + 1, 0), n - TAPS)
    taps[:] = 0.0
    if not -0.5 < position < n - 0.5:
        return first
    total = 0.0
    for t in range(TAPS):
        distance = position - (first + t)
        if abs(distance) < 1e-9:
            taps[:] = 0.0
            taps[t] = 1.0
            return first
        taps[t] = BINOMIALS[t] / distance
        total += taps[t]
    taps /= total
    return first


@njit(cache=True)
def _axis_weights(shift: float, step: float, n: int, half_width: int) -> tuple[NDArray[np.int64], FloatArray]:
    size = 2 * half_width + 1
    firsts = np.empty(size, np.int64)
    taps = np.empty((size, TAPS))
    for i in range(size):
        firsts[i] = interpolation_weights(i - half_width - shift, step, n, taps[i])
    return firsts, taps


@njit(cache=True)
def _separable(
    samples: NDArray[np.float32],
    first_y: NDArray[np.int64],
    taps_y: FloatArray,
    first_x: NDArray[np.int64],
    taps_x: FloatArray,
) -> FloatArray:
    n, size = samples.shape[0], taps_x.shape[0]
    rows = np.zeros((size, n))
    for j in range(size):
        row = rows[j]
        for t in range(TAPS):
            index = first_y[j] + t
            weight = taps_y[j, t]
            if weight != 0.0:
                source = samples[index]
                for i in range(n):
                    row[i] += weight * source[i]
    stamp = np.zeros((size, size))
    for j in range(size):
        for i in range(size):
            value = 0.0
            for t in range(TAPS):
                weight = taps_x[i, t]
                if weight != 0.0:
                    value += weight * rows[j, first_x[i] + t]
            stamp[j, i] = value
    return stamp


@njit(cache=True)
def draw_stamp(samples: NDArray[np.float32], step: float, dx: float, dy: float, half_width: int) -> FloatArray:
    """Draw a source of unit flux with its centre (dx, dy) pixels from the central pixel of the stamp.

    Parameters
    ----------
    samples
        (n, n) finely sampled PSF.
    step
        Pixels per sample.
    dx, dy
        Offset of the centre, pixels.
    half_width
        Half size of the stamp.

    Returns
    -------
    stamp
        (2 half_width + 1, 2 half_width + 1) float64.
    """
    n = samples.shape[0]
    first_x, taps_x = _axis_weights(dx, step, n, half_width)
    first_y, taps_y = _axis_weights(dy, step, n, half_width)
    return _separable(samples, first_y, taps_y, first_x, taps_x)


@njit(cache=True)
def draw_stamp_and_slopes(
    samples: NDArray[np.float32], step: float, dx: float, dy: float, half_width: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw a stamp and its derivatives with respect to the source's x and y (per pixel)."""
    n = samples.shape[0]
    h = 0.05
    first_x, taps_x = _axis_weights(dx, step, n, half_width)
    first_y, taps_y = _axis_weights(dy, step, n, half_width)
    stamp = _separable(samples, first_y, taps_y, first_x, taps_x)
    low_first, low = _axis_weights(dx - h, step, n, half_width)
    high_first, high = _axis_weights(dx + h, step, n, half_width)
    slope_x = _separable(samples, first_y, taps_y, high_first, high)
    slope_x -= _separable(samples, first_y, taps_y, low_first, low)
    low_first, low = _axis_weights(dy - h, step, n, half_width)
    high_first, high = _axis_weights(dy + h, step, n, half_width)
    slope_y = _separable(samples, high_first, high, first_x, taps_x)
    slope_y -= _separable(samples, low_first, low, first_x, taps_x)
    return stamp, slope_x / (2 * h), slope_y / (2 * h)

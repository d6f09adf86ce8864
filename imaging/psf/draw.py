"""Numba kernels that draw PSF stamps, equivalent to :meth:`imaging.psf.model.PsfModel.stamp`."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.psf.model import BINOMIALS, TAPS

FloatArray = NDArray[np.float64]

SLOPE_STEP = 0.05
"""Shift to either side, pixels, that gives the derivatives of a stamp."""


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
def _axis_weights(shift: float, step: float, n: int, half_width: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the first samples and the weights that interpolate a centred grid of spacing ``step`` at a stamp's pixels.

    They are those of the polynomial of degree seven through the eight nearest samples (Lagrange, in the barycentric
    form of Berrut and Trefethen 2004, SIAM Review 46, 501); all are zero outside the grid.
    """
    size = 2 * half_width + 1
    firsts, taps = np.empty(size, np.int64), np.zeros((size, TAPS))
    for i in range(size):
        position = (i - half_width - shift) / step + (n - 1) / 2
        first = firsts[i] = min(max(int(np.floor(position)) - TAPS // 2 + 1, 0), n - TAPS)
        nearest = int(np.rint(position))
        if not -0.5 < position < n - 0.5:
            continue
        if abs(position - nearest) < 1e-9:
            taps[i, nearest - first] = 1.0
            continue
        total = 0.0
        for t in range(TAPS):
            taps[i, t] = BINOMIALS[t] / (position - (first + t))
            total += taps[i, t]
        for t in range(TAPS):
            taps[i, t] /= total
    return firsts, taps


@njit(cache=True)
def _slope_weights(shift: float, step: float, n: int, half_width: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the weights of the derivative with respect to the shift, by a central difference."""
    first, high = _axis_weights(shift + SLOPE_STEP, step, n, half_width)
    low_first, low = _axis_weights(shift - SLOPE_STEP, step, n, half_width)
    taps = np.zeros((first.size, TAPS + 1 + int(2.0 * SLOPE_STEP / step)))
    taps[:, :TAPS] = high
    for i in range(first.size):
        taps[i, low_first[i] - first[i] : low_first[i] - first[i] + TAPS] -= low[i]
    return first, taps / (2.0 * SLOPE_STEP)


@njit(cache=True)
def _interpolated(values: NDArray[np.float32] | FloatArray, firsts: NDArray[np.int64], taps: FloatArray) -> FloatArray:
    """Interpolate (n, m) values along the first axis, with the weights of :func:`_axis_weights`: (m, size)."""
    found = np.zeros((firsts.size, values.shape[1]))
    for j in range(firsts.size):
        first = firsts[j]
        for t in range(taps.shape[1]):
            weight = taps[j, t]
            if weight != 0.0:
                for i in range(values.shape[1]):
                    found[j, i] += weight * values[first + t, i]
    return np.ascontiguousarray(found.T)


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
    columns = _interpolated(samples, *_axis_weights(dy, step, n, half_width))
    return _interpolated(columns, *_axis_weights(dx, step, n, half_width))


@njit(cache=True)
def draw_stamp_and_slopes(
    samples: NDArray[np.float32], step: float, dx: float, dy: float, half_width: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw a stamp and its derivatives with respect to the source's x and y (per pixel)."""
    n = samples.shape[0]
    along_x = _axis_weights(dx, step, n, half_width)
    columns = _interpolated(samples, *_axis_weights(dy, step, n, half_width))
    slopes = _interpolated(samples, *_slope_weights(dy, step, n, half_width))
    return (
        _interpolated(columns, *along_x),
        _interpolated(columns, *_slope_weights(dx, step, n, half_width)),
        _interpolated(slopes, *along_x),
    )

"""PSF fit of a point source to a window of pixels: Numba kernels of detection and forced photometry.

The functions fill rows of measurements whose first seven entries are x, y, flux, flux error, x error, y error and
reduced chi-square.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.image import FloatImage
from imaging.psf.draw import draw_stamp_and_slopes

FloatArray = NDArray[np.float64]

ITERATIONS = 6
"""Largest number of iterations of the position fit."""


@numba.njit(cache=True)
def cut_window(image: FloatImage, weight: FloatImage, cx: int, cy: int, half: int) -> tuple[FloatArray, FloatArray]:
    """Return image and weight (2 half + 1 squared) about a pixel; zeros outside the image."""
    ny, nx = image.shape
    size = 2 * half + 1
    data, inverse = np.zeros((size, size)), np.zeros((size, size))
    for j in range(max(0, cy - half), min(ny, cy + half + 1)):
        for i in range(max(0, cx - half), min(nx, cx + half + 1)):
            data[j - cy + half, i - cx + half] = image[j, i]
            inverse[j - cy + half, i - cx + half] = weight[j, i]
    return data, inverse


@numba.njit(cache=True)
def host_columns(model: FloatImage, cx: int, cy: int, half: int) -> FloatArray:
    """Return (3, 2 half + 1 squared): the subtracted template about a pixel and its slopes; zeros outside the image."""
    ny, nx = model.shape
    size = 2 * half + 1
    out = np.zeros((3, size, size))
    for j in range(max(1, cy - half), min(ny - 1, cy + half + 1)):
        for i in range(max(1, cx - half), min(nx - 1, cx + half + 1)):
            b, a = j - cy + half, i - cx + half
            out[0, b, a] = model[j, i]
            out[1, b, a] = 0.5 * (model[j, i + 1] - model[j, i - 1])
            out[2, b, a] = 0.5 * (model[j + 1, i] - model[j - 1, i])
    return out


@numba.njit(cache=True)
def _normal_equations(
    normal: FloatArray,
    right: FloatArray,
    data: FloatArray,
    inverse: FloatArray,
    source: tuple[FloatArray, FloatArray, FloatArray],
    host: FloatArray,
    circle: tuple[float, float, float],
    precision: tuple[float, float],
) -> None:
    """Fill the normal equations of source, its slopes, host and its slopes within a circle (x, y, radius)."""
    half, column = data.shape[0] // 2, np.zeros(6)
    dx, dy, radius = circle
    normal[:], right[:] = 0.0, 0.0
    for k in range(3):
        normal[3 + k, 3 + k] = precision[min(k, 1)]
    for j in range(2 * half + 1):
        for i in range(2 * half + 1):
            w = inverse[j, i]
            if w <= 0 or (i - half - dx) ** 2 + (j - half - dy) ** 2 > radius * radius:
                continue
            column[0], column[1], column[2] = source[0][j, i], source[1][j, i], source[2][j, i]
            column[3], column[4], column[5] = host[0, j, i], host[1, j, i], host[2, j, i]
            for a in range(6):
                right[a] += w * column[a] * data[j, i]
                for b in range(6):
                    normal[a, b] += w * column[a] * column[b]


@numba.njit(cache=True)
def fit_position(
    data: FloatArray,
    inverse: FloatArray,
    samples: FloatImage,
    step: float,
    dx: float,
    dy: float,
    half: int,
    radius: float,
    max_shift: float,
    host: FloatArray,
    errors: tuple[float, float],
) -> tuple[float, float]:
    """Fit flux and position by Gauss-Newton within a distance of the start, with what is left of the host.

    The scale and the shift of the subtracted template (``host``) are unknowns too, with zero as their prior and the
    known ``errors``: on the slope of a host a residual of either would draw the position to the host's core.
    """
    start_x, start_y = dx, dy
    precision = (1.0 / max(errors[0], 1e-6) ** 2, 1.0 / max(errors[1], 1e-6) ** 2)
    normal, right = np.zeros((6, 6)), np.zeros(6)
    for _ in range(ITERATIONS):
        stamp, slope_x, slope_y = draw_stamp_and_slopes(samples, step, dx, dy, half)
        _normal_equations(normal, right, data, inverse, (stamp, slope_x, slope_y), host, (dx, dy, radius), precision)
        if normal[0, 0] <= 0 or np.linalg.det(normal[:3, :3]) <= 1e-30:
            return start_x, start_y
        solution = np.linalg.solve(normal, right)
        if solution[0] == 0:
            return start_x, start_y
        move_x = min(max(solution[1] / solution[0], -0.5), 0.5)
        move_y = min(max(solution[2] / solution[0], -0.5), 0.5)
        new_x, new_y = dx + move_x, dy + move_y
        away = math.sqrt((new_x - start_x) ** 2 + (new_y - start_y) ** 2)
        if away > max_shift:
            new_x = start_x + (new_x - start_x) * max_shift / away
            new_y = start_y + (new_y - start_y) * max_shift / away
        move = (new_x - dx) ** 2 + (new_y - dy) ** 2
        dx, dy = new_x, new_y
        if move < 1e-7:
            break
    return dx, dy


@numba.njit(cache=True)
def fit_flux(
    out: FloatArray,
    data: FloatArray,
    inverse: FloatArray,
    samples: FloatImage,
    step: float,
    dx: float,
    dy: float,
    half: int,
    radius: float,
    gain: float,
    psf_error: float,
) -> None:
    """Fill flux, its error, position errors and chi-square at a position.

    The flux is weighted as for blank sky, because weights that depend on the data are biased; its error includes the
    source's photon noise.
    """
    stamp, slope_x, slope_y = draw_stamp_and_slopes(samples, step, dx, dy, half)
    norm = total = 0.0
    for j in range(2 * half + 1):
        for i in range(2 * half + 1):
            if (i - half - dx) ** 2 + (j - half - dy) ** 2 <= radius * radius:
                norm += inverse[j, i] * stamp[j, i] ** 2
                total += inverse[j, i] * stamp[j, i] * data[j, i]
    if norm <= 0:
        out[2], out[3] = 0.0, np.inf
        return
    flux = total / norm
    extra = chi2 = tx = ty = vx = vy = 0.0
    count = 0
    for j in range(2 * half + 1):
        for i in range(2 * half + 1):
            w = inverse[j, i]
            if w <= 0 or (i - half - dx) ** 2 + (j - half - dy) ** 2 > radius * radius:
                continue
            photons = abs(flux) * max(stamp[j, i], 0.0) / gain
            variance = 1.0 / w + photons
            extra += (w * stamp[j, i]) ** 2 * photons
            chi2 += (data[j, i] - flux * stamp[j, i]) ** 2 / (variance + (psf_error * flux * stamp[j, i]) ** 2)
            tx += w * slope_x[j, i] ** 2
            ty += w * slope_y[j, i] ** 2
            vx += (w * slope_x[j, i]) ** 2 * variance
            vy += (w * slope_y[j, i]) ** 2 * variance
            count += 1
    out[2] = flux
    out[3] = np.sqrt(1.0 / norm + extra / norm**2)
    scale = max(abs(flux), 1e-30)
    out[4] = np.sqrt(vx) / max(tx, 1e-30) / scale
    out[5] = np.sqrt(vy) / max(ty, 1e-30) / scale
    out[6] = chi2 / max(count - 3, 1)

"""PSF measurements of one source, on an image with its neighbours subtracted.

Common to the functions here: ``image`` and ``weight`` are (ny, nx) float32 planes, ``samples`` the finely sampled PSF
at the source with ``step`` pixels per sample, ``start`` its windowed centroid and ``place`` its position in the PSF fit
(x, y; pixels, 0-based), ``background`` the local background in electrons per pixel, ``radius`` the radius of the fit
in pixels.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.image import FloatImage
from imaging.psf.draw import draw_stamp, draw_stamp_and_slopes, local_samples, position_terms

FloatArray = NDArray[np.float64]


@njit(cache=True)
def samples_at(model: tuple, x: float, y: float, half_width: int) -> NDArray[np.float32]:
    """Return the finely sampled PSF at a position, large enough for a stamp of some half width.

    Parameters
    ----------
    model
        Coefficient images (n_terms, n, n), degree, step, origin and scale of a :class:`imaging.psf.model.PsfModel`.
    x, y
        Position, pixels.
    half_width
        Half size of the stamp, pixels.
    """
    coefficients, degree, step, origin, scale = model
    terms = position_terms(x, y, degree, origin, scale)
    return local_samples(coefficients, terms, int((half_width + 1) / step) + 5)


@njit(cache=True)
def add_source(
    image: FloatImage, samples: NDArray[np.float32], step: float, x: float, y: float, flux: float, half_width: int
) -> None:
    """Add a source to an image, in place; a negative flux subtracts it.

    Parameters
    ----------
    image
        Changed.
    samples, step
        PSF.
    x, y, flux
        Position, pixels, and electrons.
    half_width
        Half size of the drawn stamp, pixels.
    """
    ny, nx = image.shape
    cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    stamp = draw_stamp(samples, step, x - cx, y - cy, half_width)
    for j in range(max(0, cy - half_width), min(ny, cy + half_width + 1)):
        for i in range(max(0, cx - half_width), min(nx, cx + half_width + 1)):
            image[j, i] += np.float32(flux * stamp[j - cy + half_width, i - cx + half_width])


@njit(cache=True)
def normal_equations(
    image: FloatImage,
    weight: FloatImage,
    samples: NDArray[np.float32],
    step: float,
    place: tuple[float, float],
    background: float,
    radius: float,
) -> tuple[FloatArray, FloatArray]:
    """Compute the normal equations of flux, and flux times the shift in x and y, for one source.

    Parameters
    ----------
    image, weight, samples, step, place, background, radius
        As in the module's description.

    Returns
    -------
    normal, vector
        (3, 3) and (3,); zero without a usable pixel.
    """
    ny, nx = image.shape
    x, y = place
    half_width = int(np.ceil(radius))
    cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    stamp, slope_x, slope_y = draw_stamp_and_slopes(samples, step, x - cx, y - cy, half_width)
    n00 = n01 = n02 = n11 = n12 = n22 = v0 = v1 = v2 = 0.0
    for j in range(max(0, cy - half_width), min(ny, cy + half_width + 1)):
        for i in range(max(0, cx - half_width), min(nx, cx + half_width + 1)):
            if weight[j, i] <= 0.0 or (i - x) ** 2 + (j - y) ** 2 > radius * radius:
                continue
            p, q = j - cy + half_width, i - cx + half_width
            w, value = weight[j, i], image[j, i] - background
            s, u, v = stamp[p, q], slope_x[p, q], slope_y[p, q]
            n00 += w * s * s
            n01 += w * s * u
            n02 += w * s * v
            n11 += w * u * u
            n12 += w * u * v
            n22 += w * v * v
            v0 += w * value * s
            v1 += w * value * u
            v2 += w * value * v
    return np.array([[n00, n01, n02], [n01, n11, n12], [n02, n12, n22]]), np.array([v0, v1, v2])


@njit(cache=True)
def _solved(normal: FloatArray, vector: FloatArray) -> tuple[tuple[float, float, float], float]:
    """Return the solution of three symmetric equations by Cramer's rule, and their determinant."""
    (a, b, c), (_, d, e), (_, _, f) = normal
    p, q, r = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * p + b * q + c * r
    scale = 1.0 / determinant if determinant != 0.0 else 0.0
    x, y, z = vector
    s, t, u = a * f - c * c, b * c - a * e, a * d - b * b
    return (
        (scale * (p * x + q * y + r * z), scale * (q * x + s * y + t * z), scale * (r * x + t * y + u * z)),
        determinant,
    )


@njit(cache=True)
def fit_one(
    image: FloatImage,
    weight: FloatImage,
    samples: NDArray[np.float32],
    step: float,
    start: tuple[float, float],
    place: tuple[float, float],
    background: float,
    radius: float,
    max_shift: float,
) -> tuple[float, float, float]:
    """Fit flux and position of one source by Gauss-Newton, weighted by the sky noise alone.

    If a step leads too far from the windowed centroid, or the flux is negative, the position is fixed at the centroid.

    Parameters
    ----------
    image, weight, samples, step, start, place, background, radius
        As in the module's description; ``place`` is where the iteration starts.
    max_shift
        Largest distance from ``start``, pixels.

    Returns
    -------
    x, y, flux
        Pixels and electrons; the flux is NaN without a usable pixel.
    """
    x, y = place
    flux = np.nan
    held = False
    for _ in range(6):
        normal, vector = normal_equations(image, weight, samples, step, (x, y), background, radius)
        if normal[0, 0] <= 0.0:
            return start[0], start[1], np.nan
        flux = vector[0] / normal[0, 0]
        solution, determinant = _solved(normal, vector)
        if held or determinant <= 1e-6 * normal[0, 0] * normal[1, 1] * normal[2, 2]:
            break
        if solution[0] <= 0.0:
            x, y = start
            held = True
            continue
        flux = solution[0]
        step_x = min(max(solution[1] / flux, -0.5), 0.5)
        step_y = min(max(solution[2] / flux, -0.5), 0.5)
        if np.hypot(x + step_x - start[0], y + step_y - start[1]) > max_shift:
            x, y = start
            held = True
            continue
        x += step_x
        y += step_y
        if abs(step_x) + abs(step_y) < 3e-3:
            break
    return x, y, flux


@njit(cache=True)
def error_and_chi2(
    image: FloatImage,
    weight: FloatImage,
    samples: NDArray[np.float32],
    step: float,
    place: tuple[float, float],
    flux: float,
    background: float,
    radius: float,
) -> tuple[float, float]:
    """Return the error of a PSF flux and the reduced chi-square of the fit.

    The error includes the source's shot noise and the free position.

    Returns
    -------
    error, chi2
        Electrons and a pure number; NaN where there are too few pixels.
    """
    ny, nx = image.shape
    x, y = place
    half_width = int(np.ceil(radius))
    cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    stamp, slope_x, slope_y = draw_stamp_and_slopes(samples, step, x - cx, y - cy, half_width)
    normal = np.zeros((3, 3))
    shot = np.zeros((3, 3))
    row = np.empty(3)
    chi2 = 0.0
    count = 0
    for j in range(max(0, cy - half_width), min(ny, cy + half_width + 1)):
        for i in range(max(0, cx - half_width), min(nx, cx + half_width + 1)):
            w = weight[j, i]
            if w <= 0.0 or (i - x) ** 2 + (j - y) ** 2 > radius * radius:
                continue
            p, q = j - cy + half_width, i - cx + half_width
            row[0], row[1], row[2] = stamp[p, q], slope_x[p, q], slope_y[p, q]
            own = max(flux * row[0], 0.0)
            for a in range(3):
                for b in range(3):
                    normal[a, b] += w * row[a] * row[b]
                    shot[a, b] += w * w * own * row[a] * row[b]
            chi2 += (image[j, i] - background - flux * row[0]) ** 2 / (1.0 / w + own)
            count += 1
    if count < 4 or np.linalg.det(normal) <= 1e-6 * normal[0, 0] * normal[1, 1] * normal[2, 2]:
        if normal[0, 0] <= 0.0:
            return np.nan, np.nan
        return np.sqrt(1.0 / normal[0, 0] + shot[0, 0] / normal[0, 0] ** 2), np.nan
    inverse = np.linalg.inv(normal)
    covariance = inverse + inverse @ shot @ inverse
    return np.sqrt(covariance[0, 0]), chi2 / (count - 3)


@njit(cache=True)
def window_slopes(stamp: NDArray[np.float32], x: float, y: float, sigma: float) -> tuple[float, float]:
    """Return the change of the windowed first moments per pixel of shift, in units of the windowed flux.

    One half where the PSF is a Gaussian of the window's width, a tenth less for the wings of a Moffat profile.

    Parameters
    ----------
    stamp
        (n, n) the PSF.
    x, y
        Centre of the window on it, pixels.
    sigma
        Width of the window, pixels.
    """
    within = along_x = along_y = 0.0
    for j in range(stamp.shape[0]):
        for i in range(stamp.shape[1]):
            u, v = (i - x) / sigma, (j - y) / sigma
            profile = np.exp(-0.5 * (u * u + v * v)) * stamp[j, i]
            within += profile
            along_x += profile * (1.0 - u * u)
            along_y += profile * (1.0 - v * v)
    return along_x / within, along_y / within


@njit(cache=True)
def window_one(
    image: FloatImage,
    weight: FloatImage,
    samples: NDArray[np.float32],
    step: float,
    start: tuple[float, float],
    flux: float,
    background: float,
    sigma: float,
) -> FloatArray:
    """Measure the Gaussian-windowed centroid of one source; masked pixels are replaced by the model.

    Parameters
    ----------
    image, weight, samples, step, start, background
        As in the module's description.
    flux, sigma
        Flux of the PSF fit, electrons, and width of the window, pixels.

    Returns
    -------
    centroid
        (4,) x, y and their errors, pixels; ``start`` where the iteration fails.
    """
    ny, nx = image.shape
    reach = int(np.ceil(4.0 * sigma))
    cx, cy = int(np.floor(start[0] + 0.5)), int(np.floor(start[1] + 0.5))
    stamp = draw_stamp(samples, step, start[0] - cx, start[1] - cy, reach)
    x, y = start
    result = np.array([x, y, sigma, sigma])
    for _ in range(20):
        total = mx = my = vx = vy = 0.0
        along = np.exp(-0.5 * ((np.arange(cx - reach, cx + reach + 1) - x) / sigma) ** 2)
        for j in range(max(0, cy - reach), min(ny, cy + reach + 1)):
            across = np.exp(-0.5 * ((j - y) / sigma) ** 2)
            for i in range(max(0, cx - reach), min(nx, cx + reach + 1)):
                dx, dy = i - x, j - y
                window = across * along[i - cx + reach]
                value = max(flux, 0.0) * stamp[j - cy + reach, i - cx + reach]
                if weight[j, i] > 0.0:
                    noise = window * window * (1.0 / weight[j, i] + value)
                    value = image[j, i] - background
                    vx += noise * dx * dx
                    vy += noise * dy * dy
                total += window * value
                mx += window * value * dx
                my += window * value * dy
        if total <= 0.0:
            return result
        x += 2.0 * mx / total
        y += 2.0 * my / total
        if np.hypot(x - start[0], y - start[1]) > sigma:
            return result
        if abs(mx) + abs(my) < 1e-4 * total:
            result[0], result[1] = x, y
            slope_x, slope_y = window_slopes(stamp, x - cx + reach, y - cy + reach, sigma)
            if slope_x > 0.0 and slope_y > 0.0:
                result[2], result[3] = np.sqrt(vx) / (slope_x * total), np.sqrt(vy) / (slope_y * total)
            return result
    return result


@njit(cache=True)
def spread_model(
    image: FloatImage,
    weight: FloatImage,
    samples: NDArray[np.float32],
    wide: NDArray[np.float32],
    step: float,
    place: tuple[float, float],
    flux: float,
    background: float,
    radius: float,
) -> tuple[float, float]:
    """Return SPREAD_MODEL and its error (Desai et al. 2012); masked pixels are ignored.

    Parameters
    ----------
    image, weight, samples, step, place, background, radius
        As in the module's description.
    wide
        Samples of the PSF convolved with a small exponential disk.
    flux
        Flux of the PSF fit, for the noise.

    Returns
    -------
    spread, error
        NaN where the source has no positive signal.
    """
    ny, nx = image.shape
    x, y = place
    half_width = int(np.ceil(radius))
    cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    star = draw_stamp(samples, step, x - cx, y - cy, half_width)
    galaxy = draw_stamp(wide, step, x - cx, y - cy, half_width)
    gp = sp = gs = ss = gvg = svs = gvs = 0.0
    for j in range(max(0, cy - half_width), min(ny, cy + half_width + 1)):
        for i in range(max(0, cx - half_width), min(nx, cx + half_width + 1)):
            if weight[j, i] <= 0.0:
                continue
            s, g = star[j - cy + half_width, i - cx + half_width], galaxy[j - cy + half_width, i - cx + half_width]
            value = image[j, i] - background
            variance = 1.0 / weight[j, i] + max(flux * s, 0.0)
            gp += g * value
            sp += s * value
            gs += g * s
            ss += s * s
            gvg += g * g * variance
            svs += s * s * variance
            gvs += g * s * variance
    if sp <= 0.0 or ss <= 0.0:
        return np.nan, np.nan
    spread = gp / sp - gs / ss
    error2 = gvg * sp * sp + svs * gp * gp - 2.0 * gvs * gp * sp
    return spread, np.sqrt(max(error2, 0.0)) / (sp * sp)

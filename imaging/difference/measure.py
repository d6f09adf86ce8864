"""Measure sources on a whitened difference: PSF flux, position, shape, negative and masked pixels."""

import math
from dataclasses import dataclass, fields

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.difference.point_source import cut_window, fit_flux, fit_position, host_columns
from imaging.difference.settings import DetectionSettings
from imaging.image import FloatImage
from imaging.psf.draw import draw_stamp, local_samples, position_terms
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]

COLUMNS = (
    *("x", "y", "flux", "flux_error", "x_error", "y_error", "chi2"),
    *("a_image", "b_image", "spread", "spread_error", "negative_fraction", "masked_fraction"),
    *("trail_length", "trail_angle", "trail_length_error", "trail_angle_error"),
)


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measured properties of n sources, (n,) float64 each.

    Attributes
    ----------
    x, y
        Fitted position, pixels.
    flux, flux_error
        PSF flux and its error, electrons, including the source's photon noise.
    x_error, y_error
        Errors of the position, pixels.
    chi2
        Reduced chi-square of the fit.
    a_image, b_image
        Windowed rms axes, pixels.
    spread, spread_error
        Shape relative to the PSF, as SExtractor's SPREAD_MODEL: negative is sharper, positive wider; and its error.
    negative_fraction
        Fraction of pixels in the window below minus two sigma (above plus two sigma for a negative source).
    masked_fraction
        Fraction of masked pixels within one FWHM.
    trail_length, trail_angle
        Of a trail, whose flux, position and chi2 are those of the whole, its length in pixels and its direction in
        degrees from x to y; zero for a point source.
    trail_length_error, trail_angle_error
        Errors of these, pixels and degrees.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    flux_error: FloatArray
    x_error: FloatArray
    y_error: FloatArray
    chi2: FloatArray
    a_image: FloatArray
    b_image: FloatArray
    spread: FloatArray
    spread_error: FloatArray
    negative_fraction: FloatArray
    masked_fraction: FloatArray
    trail_length: FloatArray
    trail_angle: FloatArray
    trail_length_error: FloatArray
    trail_angle_error: FloatArray

    def select(self, kept: NDArray[np.bool_]) -> "Measurements":
        """Return some of the sources: kept is (n,) bool."""
        return Measurements(*(getattr(self, item.name)[kept] for item in fields(self)))


def measure_sources(
    image: FloatImage,
    weight: FloatImage,
    psf: PsfModel,
    x: FloatArray,
    y: FloatArray,
    gain: float,
    settings: DetectionSettings,
    template: tuple[FloatImage, float, float] | None = None,
) -> Measurements:
    """Fit the PSF to sources and measure their shapes.

    Parameters
    ----------
    image, weight
        (ny, nx) float32, whitened difference and inverse variance; zero weight for bad pixels.
    psf
        PSF of the difference.
    x, y
        (n,) peaks, pixels.
    gain
        Photo-electrons per unit of flux, for the sources' photon noise.
    settings
        Radius of the fit, size of the window.
    template
        (ny, nx) float32, the matched template that was subtracted, its relative error of scale and its error of shift
        in pixels; None if there is none.
    """
    model, *errors = template or (np.zeros((1, 1), dtype=np.float32), 0.0, 0.0)
    spread_scale = psf.fwhm_pixels / 8.0
    values = _measure_all(
        *(image, weight, psf.coefficients, psf.degree, psf.origin, psf.scale, psf.step, psf.fwhm_pixels),
        *(np.asarray(x, dtype=float), np.asarray(y, dtype=float), float(gain), spread_scale),
        *(settings.stamp_half_width, settings.fit_radius_fwhm * psf.fwhm_pixels),
        *(settings.max_shift_pixels, settings.psf_error),
        *(model, float(errors[0]), float(errors[1])),
    )
    return Measurements(*(values[:, k] for k in range(len(COLUMNS))))


@numba.njit(cache=True)
def _measure_all(
    image: FloatImage,
    weight: FloatImage,
    coefficients: FloatImage,
    degree: int,
    origin: tuple[float, float],
    scale: tuple[float, float],
    step: float,
    fwhm: float,
    x: FloatArray,
    y: FloatArray,
    gain: float,
    spread_scale: float,
    half: int,
    radius: float,
    max_shift: float,
    psf_error: float,
    model: FloatImage,
    scale_error: float,
    shift_error: float,
) -> FloatArray:
    out = np.zeros((x.size, len(COLUMNS)))
    reach = int((half + 2) / step) + 8
    for n in range(x.size):
        terms = position_terms(x[n], y[n], degree, origin, scale)
        samples = local_samples(coefficients, terms, reach)
        cx, cy = int(np.floor(x[n] + 0.5)), int(np.floor(y[n] + 0.5))
        data, inverse = cut_window(image, weight, cx, cy, half)
        dx, dy = fit_position(
            *(data, inverse, samples, step, x[n] - cx, y[n] - cy, half, radius, max_shift),
            *(host_columns(model, cx, cy, half), (scale_error, shift_error)),
        )
        out[n, 0], out[n, 1] = cx + dx, cy + dy
        fit_flux(out[n], data, inverse, samples, step, dx, dy, half, radius, gain, psf_error)
        _shape(out[n], data, inverse, samples, step, dx, dy, half, fwhm, spread_scale)
        _window_shares(out[n], data, inverse, dx, dy, half, fwhm)
    return out


@numba.njit(cache=True)
def _shape(
    out: FloatArray,
    data: FloatArray,
    inverse: FloatArray,
    samples: FloatImage,
    step: float,
    dx: float,
    dy: float,
    half: int,
    fwhm: float,
    spread_scale: float,
) -> None:
    """Fill the axes and the spread statistic."""
    sign = 1.0 if out[2] >= 0 else -1.0
    stamp = draw_stamp(samples, step, dx, dy, half)
    wide = np.zeros_like(stamp)
    for k in range(8):
        angle = k * math.pi / 4.0
        wide += 0.125 * draw_stamp(
            samples, step, dx + spread_scale * math.cos(angle), dy + spread_scale * math.sin(angle), half
        )
    sigma2 = (fwhm / 2.3548) ** 2
    m0 = mxx = myy = mxy = 0.0
    gp = pp = gd = pd = 0.0
    for j in range(2 * half + 1):
        for i in range(2 * half + 1):
            ux, uy = i - half - dx, j - half - dy
            r2 = ux * ux + uy * uy
            w = inverse[j, i]
            if w <= 0 or r2 > 4.0 * fwhm * fwhm:
                continue
            window = math.exp(-0.5 * r2 / sigma2) * sign * data[j, i]
            m0 += window
            mxx += window * ux * ux
            myy += window * uy * uy
            mxy += window * ux * uy
            gp += w * wide[j, i] * stamp[j, i]
            pp += w * stamp[j, i] ** 2
            gd += w * wide[j, i] * sign * data[j, i]
            pd += w * stamp[j, i] * sign * data[j, i]
    if m0 > 0:
        mxx, myy, mxy = 2.0 * mxx / m0, 2.0 * myy / m0, 2.0 * mxy / m0
        mean, split = 0.5 * (mxx + myy), math.sqrt(0.25 * (mxx - myy) ** 2 + mxy**2)
        out[7], out[8] = math.sqrt(max(mean + split, 0.0)), math.sqrt(max(mean - split, 0.0))
    if pd > 0 and pp > 0:
        out[9] = gd / pd - gp / pp
        out[10] = _spread_error(data, inverse, stamp, wide, dx, dy, sign, gd, pd, half, 2.0 * fwhm)
    else:
        out[10] = np.inf


@numba.njit(cache=True)
def _spread_error(
    data: FloatArray,
    inverse: FloatArray,
    stamp: FloatArray,
    wide: FloatArray,
    dx: float,
    dy: float,
    sign: float,
    gd: float,
    pd: float,
    half: int,
    radius: float,
) -> float:
    variance = 0.0
    for j in range(2 * half + 1):
        for i in range(2 * half + 1):
            if inverse[j, i] > 0 and (i - half - dx) ** 2 + (j - half - dy) ** 2 <= radius * radius:
                slope = inverse[j, i] * (wide[j, i] * pd - stamp[j, i] * gd) / (pd * pd)
                variance += slope * slope * (1.0 / inverse[j, i] + max(sign * data[j, i], 0.0))
    return math.sqrt(variance)


@numba.njit(cache=True)
def _window_shares(
    out: FloatArray, data: FloatArray, inverse: FloatArray, dx: float, dy: float, half: int, fwhm: float
) -> None:
    """Fill the fractions of pixels of opposite sign and of masked pixels."""
    sign = 1.0 if out[2] >= 0 else -1.0
    negative = pixels = masked = near = 0
    for j in range(2 * half + 1):
        for i in range(2 * half + 1):
            w = inverse[j, i]
            if (i - half - dx) ** 2 + (j - half - dy) ** 2 <= fwhm * fwhm:
                near += 1
                masked += w <= 0
            if w > 0:
                pixels += 1
                negative += sign * data[j, i] * math.sqrt(w) < -2.0
    out[11] = negative / max(pixels, 1)
    out[12] = masked / max(near, 1)

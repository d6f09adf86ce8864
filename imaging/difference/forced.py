"""Forced PSF photometry on a difference at given positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.difference.point_source import cut_window, fit_flux
from imaging.difference.records import Identity
from imaging.difference.settings import DetectionSettings
from imaging.image import CalibratedImage, FloatImage
from imaging.photometry.transparency import at_places
from imaging.psf.draw import local_samples, position_terms
from imaging.psf.model import PsfModel
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.tables import make_table

FloatArray = NDArray[np.float64]

NANOJANSKY_ZEROPOINT = 31.4
"""AB magnitude of one nanojansky."""

LIMIT_SIGMA = 5.0
"""Significance of the limiting magnitude."""

MAGNITUDE_SIGMA = 2.0
"""Lowest significance of a flux with a magnitude."""


@dataclass(frozen=True, eq=False)
class ForcedFluxes:
    """Fluxes at given positions; (n,) arrays.

    Attributes
    ----------
    flux, error
        Electrons; NaN if the PSF covers no good pixel.
    masked
        Whether the position falls on masked pixels.
    """

    flux: FloatArray
    error: FloatArray
    masked: NDArray[np.bool_]


def measure_forced(
    difference: CalibratedImage,
    x: FloatArray,
    y: FloatArray,
    settings: DetectionSettings,
    template_flux: FloatImage | None = None,
) -> ForcedFluxes:
    """Measure PSF fluxes at fixed positions.

    The noise of a whitened difference is white, so that the error of the weighted sum follows from its weights; the
    noise width measured through the PSF, the error of the PSF model, and those of the subtracted template are read from
    the header of the difference.

    Parameters
    ----------
    difference
        Whitened difference as an image (:meth:`imaging.difference.records.Difference.as_image`).
    x, y
        (n,) positions, pixels; positions outside the image give NaN.
    settings
        Radius of the fit.
    template_flux
        (ny, nx) float32, subtracted template through the matched filter, for the error that is proportional to it.
    """
    header = difference.pixels.header
    flux, error, masked_share = forced_fluxes(
        *(difference.pixels.science, difference.pixels.weight, difference.psf, x, y),
        float(header.get("PHOTGAIN", 1.0)),
        settings,
    )
    proportional = np.hypot(float(header.get("PSFERR", 0.0)), at_places(difference.transparency_error, x, y))
    error = np.hypot(error * float(header.get("FLUXERRS", 1.0)), proportional * flux)
    if template_flux is not None:
        error = np.hypot(error, _template_error(template_flux, x, y, header))
    masked = masked_share > settings.max_masked_fraction
    return ForcedFluxes(flux, error, masked)


def forced_table(
    difference: CalibratedImage,
    identity: Identity,
    candidate_ids: Sequence[str],
    ra_deg: FloatArray,
    dec_deg: FloatArray,
    settings: DetectionSettings,
    template_flux: FloatImage | None = None,
) -> pa.Table:
    """Measure candidates on one difference and return the table FORCED_PHOTOMETRY.

    Parameters
    ----------
    difference
        Whitened difference as an image.
    identity
        Exposure and CCD.
    candidate_ids
        (n,) names.
    ra_deg, dec_deg
        (n,) positions; those outside the image are left out of the table.
    settings
        Radius of the fit.
    template_flux
        See :func:`measure_forced`.
    """
    ny, nx = difference.pixels.shape
    x, y = difference.wcs.sky_to_pixel(ra_deg, dec_deg)
    inside = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    x, y = x[inside], y[inside]
    forced = measure_forced(difference, x, y, settings, template_flux)
    names = [name for name, keep in zip(candidate_ids, inside, strict=True) if keep]
    columns = identity.columns(x.size) | {"candidate_id": names, "mjd": np.full(x.size, identity.mjd)}
    return make_table(columns | photometry_columns(forced, difference.zeropoint_mag), FORCED_PHOTOMETRY)


def photometry_columns(forced: ForcedFluxes, zeropoint_mag: float) -> dict[str, Any]:
    """Return the common columns of all forced-photometry tables: fluxes, magnitudes, limits.

    Parameters
    ----------
    forced
        Fluxes in electrons.
    zeropoint_mag
        AB magnitude of one electron.
    """
    measured = np.isfinite(forced.flux) & np.isfinite(forced.error)
    scale = 10 ** (-0.4 * (zeropoint_mag - NANOJANSKY_ZEROPOINT))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = forced.flux / forced.error
        bright = measured & (snr > MAGNITUDE_SIGMA)
        mag = zeropoint_mag - 2.5 * np.log10(np.where(bright, forced.flux, np.nan))
        limit = zeropoint_mag - 2.5 * np.log10(LIMIT_SIGMA * forced.error)
    return {
        "flux": _nullable(forced.flux * scale, measured),
        "flux_error": _nullable(forced.error * scale, measured),
        "snr": _nullable(snr, measured),
        "mag": _nullable(mag, bright),
        "mag_error": _nullable(2.5 / np.log(10.0) / np.where(bright, snr, np.nan), bright),
        "limit_mag": _nullable(limit, measured),
        "masked": forced.masked,
    }


def _template_error(template_flux: FloatImage, x: FloatArray, y: FloatArray, header: dict[str, object]) -> FloatArray:
    ny, nx = template_flux.shape
    i, j = np.clip(np.rint(x).astype(int), 1, nx - 2), np.clip(np.rint(y).astype(int), 1, ny - 2)
    slope_x = 0.5 * (template_flux[j, i + 1] - template_flux[j, i - 1])
    slope_y = 0.5 * (template_flux[j + 1, i] - template_flux[j - 1, i])
    scale, shift = (float(str(header.get(key, 0.0))) for key in ("SCALEERR", "SHIFTERR"))
    return np.sqrt((scale * template_flux[j, i]) ** 2 + shift**2 * (slope_x**2 + slope_y**2))


def _nullable(values: FloatArray, known: NDArray[np.bool_]) -> pa.Array:
    return pa.array(np.where(known, values, 0.0), mask=~known)


def forced_fluxes(
    image: FloatImage,
    weight: FloatImage,
    psf: PsfModel,
    x: FloatArray,
    y: FloatArray,
    gain: float,
    settings: DetectionSettings,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit the flux of the PSF at fixed positions.

    Parameters
    ----------
    image, weight, psf, gain, settings
        See :func:`imaging.difference.measure.measure_sources`.
    x, y
        (n,) positions, pixels.

    Returns
    -------
    flux, error
        (n,) electrons; NaN if the PSF covers no good pixel.
    masked_fraction
        (n,) fraction of masked pixels within one FWHM.
    """
    values = _forced_all(
        *(image, weight, psf.coefficients, psf.degree, psf.origin, psf.scale, psf.step, psf.fwhm_pixels),
        *(np.asarray(x, dtype=float), np.asarray(y, dtype=float), float(gain), settings.stamp_half_width),
        settings.forced_radius_fwhm * psf.fwhm_pixels,
    )
    return values[:, 0], values[:, 1], values[:, 2]


@numba.njit(cache=True)
def _forced_all(
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
    half: int,
    radius: float,
) -> FloatArray:
    out = np.full((x.size, 3), np.nan)
    reach = int((half + 2) / step) + 8
    values = np.zeros(13)
    for n in range(x.size):
        terms = position_terms(x[n], y[n], degree, origin, scale)
        samples = local_samples(coefficients, terms, reach)
        cx, cy = int(np.floor(x[n] + 0.5)), int(np.floor(y[n] + 0.5))
        data, inverse = cut_window(image, weight, cx, cy, half)
        near = masked = 0
        for j in range(2 * half + 1):
            for i in range(2 * half + 1):
                if (i - half - x[n] + cx) ** 2 + (j - half - y[n] + cy) ** 2 <= fwhm * fwhm:
                    near += 1
                    if inverse[j, i] <= 0:
                        masked += 1
        out[n, 2] = masked / max(near, 1)
        values[:] = 0.0
        fit_flux(values, data, inverse, samples, step, x[n] - cx, y[n] - cy, half, radius, gain, 0.0)
        if np.isfinite(values[3]) and masked < near:
            out[n, 0], out[n, 1] = values[2], values[3]
    return out

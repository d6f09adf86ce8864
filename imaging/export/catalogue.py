"""Convert the source catalogue to the columns of DES ``fullcat`` files (SExtractor names)."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import erfc

from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.tables import column

FloatArray = NDArray[np.float64]

NO_MAGNITUDE = 99.0
"""SExtractor's magnitude and magnitude error of a flux that is not positive."""

STAR_LIMIT = 0.005
"""SPREAD_MODEL at which CLASS_STAR is one half, half way between stars and the smallest galaxies."""

STAR_WIDTH = 0.002
"""Scatter of SPREAD_MODEL among bright stars."""

_PLAIN = {
    "NUMBER": ("number", "J", "", "running object number"),
    "FLAGS": ("flags", "I", "", "extraction flags"),
    "IMAFLAGS_ISO": ("mask", "I", "", "mask bits within the isophote"),
    "ALPHA_J2000": ("ra", "D", "deg", "right ascension, ICRS, epoch of the exposure"),
    "DELTA_J2000": ("dec", "D", "deg", "declination"),
    "ALPHAWIN_J2000": ("ra", "D", "deg", "right ascension, the same as ALPHA_J2000"),
    "DELTAWIN_J2000": ("dec", "D", "deg", "declination, the same as DELTA_J2000"),
    "FLUX_AUTO": ("flux_auto", "E", "count", "flux in the Kron ellipse, electrons"),
    "FLUXERR_AUTO": ("flux_auto_error", "E", "count", "error of FLUX_AUTO"),
    "FLUX_PSF": ("flux_psf", "E", "count", "flux of the PSF fit, electrons"),
    "FLUXERR_PSF": ("flux_psf_error", "E", "count", "error of FLUX_PSF"),
    "CHI2_PSF": ("chi2_psf", "E", "", "reduced chi-square of the PSF fit"),
    "FLUX_APER": ("flux_aper", "12E", "count", "fluxes in the twelve apertures, electrons"),
    "FLUXERR_APER": ("flux_aper_error", "12E", "count", "errors of FLUX_APER"),
    "BACKGROUND": ("background", "E", "count", "subtracted local background"),
    "A_IMAGE": ("a_image", "E", "pixel", "rms along the major axis"),
    "B_IMAGE": ("b_image", "E", "pixel", "rms along the minor axis"),
    "THETA_IMAGE": ("theta_image", "E", "deg", "position angle of the major axis against x"),
    "KRON_RADIUS": ("kron_radius", "E", "", "Kron radius in units of A_IMAGE"),
    "FLUX_RADIUS": ("flux_radius", "E", "pixel", "radius that encloses half of FLUX_AUTO"),
    "FWHM_IMAGE": ("fwhm_image", "E", "pixel", "full width at half maximum"),
    "ISOAREA_IMAGE": ("isoarea", "J", "pixel**2", "pixels above the threshold"),
    "FLUX_MAX": ("peak", "E", "count", "brightest pixel"),
    "SPREAD_MODEL": ("spread_model", "E", "", "star/galaxy statistic"),
    "SPREADERR_MODEL": ("spread_model_error", "E", "", "error of SPREAD_MODEL"),
    "ERRXPSF_IMAGE": ("x_error", "E", "pixel", "error of the position along x"),
    "ERRYPSF_IMAGE": ("y_error", "E", "pixel", "error of the position along y"),
}
"""DES name: our column, FITS format, unit, meaning."""

_POSITIONS = ("X_IMAGE", "XWIN_IMAGE", "XPSF_IMAGE"), ("Y_IMAGE", "YWIN_IMAGE", "YPSF_IMAGE")
_MAGNITUDES = ("AUTO", "PSF", "APER")


@dataclass(frozen=True, eq=False)
class DesColumn:
    """One column of an exported catalogue.

    Attributes
    ----------
    values
        (n,) or (n, 12) values.
    form
        FITS format code.
    unit, meaning
        For the header.
    """

    values: NDArray[np.generic]
    form: str
    unit: str
    meaning: str


def des_columns(catalogue: pa.Table, instrumental_zeropoint_mag: float) -> dict[str, DesColumn]:
    """Convert a catalogue to the columns of a DES ``fullcat``.

    Positions become 1-based. Every source has one position, that of its PSF fit, which is written to all of
    SExtractor's position columns. CLASS_STAR, in SExtractor from a neural network, is the probability that SPREAD_MODEL
    is below the limit between stars and galaxies.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    instrumental_zeropoint_mag
        Zero point of the MAG columns, which are uncalibrated, as in the original pipeline.

    Returns
    -------
    columns
        DES name to column; missing values are NaN in floats.
    """
    columns = {
        name: DesColumn(column(catalogue, ours), form, unit, meaning)
        for name, (ours, form, unit, meaning) in _PLAIN.items()
    }
    for names, axis in zip(_POSITIONS, "xy", strict=True):
        place = DesColumn(column(catalogue, axis) + 1.0, "D", "pixel", f"position along {axis}, 1-based")
        columns |= dict.fromkeys(names, place)
    for kind in _MAGNITUDES:
        flux, error = columns[f"FLUX_{kind}"], columns[f"FLUXERR_{kind}"]
        mag, mag_error = instrumental_magnitudes(flux.values, error.values, instrumental_zeropoint_mag)
        columns[f"MAG_{kind}"] = DesColumn(
            mag, flux.form, "mag", f"instrumental, zero point {instrumental_zeropoint_mag}"
        )
        columns[f"MAGERR_{kind}"] = DesColumn(mag_error, flux.form, "mag", "error of the magnitude")
    a, b = column(catalogue, "a_image").astype(float), column(catalogue, "b_image").astype(float)
    columns["ELLIPTICITY"] = DesColumn(1.0 - b / a, "E", "", "1 - B_IMAGE / A_IMAGE")
    columns["ELONGATION"] = DesColumn(a / b, "E", "", "A_IMAGE / B_IMAGE")
    width = column(catalogue, "fwhm_image") * (PIXEL_SCALE_ARCSEC / 3600.0)
    columns["FWHM_WORLD"] = DesColumn(width, "E", "deg", "full width at half maximum")
    spread, spread_error = column(catalogue, "spread_model"), column(catalogue, "spread_model_error")
    columns["CLASS_STAR"] = DesColumn(class_star(spread, spread_error), "E", "", "1 star, 0 galaxy; from SPREAD_MODEL")
    return columns


def instrumental_note(zeropoint_mag: float) -> str:
    """Return a comment on the zero point of the MAG columns, which is not that of the image."""
    return (
        f"MAG columns are instrumental: their zero point is {zeropoint_mag:g} (SEXMGZPT), that of DES. "
        f"AB magnitude = MAG - {zeropoint_mag:g} + MAGZERO, with MAGZERO from the image header in LDAC_IMHEAD."
    )


def instrumental_magnitudes(
    flux: NDArray[np.generic], error: NDArray[np.generic], zeropoint_mag: float
) -> tuple[FloatArray, FloatArray]:
    """Convert fluxes to magnitudes and errors; both are 99 if the flux is not positive or unknown."""
    values, errors = np.asarray(flux, dtype=float), np.asarray(error, dtype=float)
    good = values > 0
    safe = np.where(good, values, 1.0)
    mag = np.where(good, zeropoint_mag - 2.5 * np.log10(safe), NO_MAGNITUDE)
    return mag, np.where(good, 2.5 / np.log(10.0) * errors / safe, NO_MAGNITUDE)


def class_star(spread: FloatArray, error: FloatArray) -> FloatArray:
    """Return the probability that a source is a star by its SPREAD_MODEL; one half if unknown."""
    distance = (np.asarray(spread, dtype=float) - STAR_LIMIT) / np.hypot(np.asarray(error, dtype=float), STAR_WIDTH)
    return np.where(np.isfinite(distance), 0.5 * erfc(distance / np.sqrt(2.0)), 0.5)

"""Zero points of other magnitudes than those of the PSF: in the Kron ellipse, and in the twelve DES apertures."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.photometry.match import MAG_PER_RELATIVE_FLUX
from imaging.photometry.settings import PhotometrySettings
from imaging.schemas.catalogue import APERTURE_DIAMETERS_PIXELS
from imaging.tables import column, with_column

FloatArray = NDArray[np.float64]

PSF_MAGNITUDES = "mag_psf"
"""Magnitudes whose zero points all products use."""

APERTURES = {f"mag_aper_{number}": number - 1 for number in range(1, len(APERTURE_DIAMETERS_PIXELS) + 1)}
"""Name of the magnitude in each aperture to its index."""

MAGNITUDES = (PSF_MAGNITUDES, "mag_auto", *APERTURES)
"""Magnitudes for which zero points are solved, with the names of the original pipeline."""


def check_magnitudes(name: str) -> None:
    """Raise unless zero points can be solved for these magnitudes.

    Raises
    ------
    InputError
        If the catalogue has no such magnitudes.
    """
    if name not in MAGNITUDES:
        raise InputError("unknown magnitudes", value=repr(name), limit="mag_psf, mag_auto, mag_aper_1 to mag_aper_12")


def fluxes(catalogue: pa.Table, magnitudes: str) -> tuple[FloatArray, FloatArray]:
    """Return the fluxes of all sources behind some magnitudes, and their errors.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    magnitudes
        One of :data:`MAGNITUDES`.

    Returns
    -------
    flux, error
        (n,) electrons; NaN where a source was not measured.
    """
    check_magnitudes(magnitudes)
    kind = "aper" if magnitudes in APERTURES else magnitudes.removeprefix("mag_")
    flux, error = (column(catalogue, f"flux_{kind}{end}").astype(np.float64) for end in ("", "_error"))
    return (flux[:, APERTURES[magnitudes]], error[:, APERTURES[magnitudes]]) if kind == "aper" else (flux, error)


def matches_of(matches: pa.Table, catalogue: pa.Table, magnitudes: str, settings: PhotometrySettings) -> pa.Table:
    """Return the matches to reference stars with the zero points of other magnitudes.

    The stars are those of the zero point of the PSF magnitudes, of which the faint ones are left out again.

    Parameters
    ----------
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`, of the PSF magnitudes.
    catalogue
        The catalogue of the same CCD.
    magnitudes
        One of :data:`MAGNITUDES`.
    settings
        Limits.
    """
    numbers = column(catalogue, "number")
    order = np.argsort(numbers)
    rows = order[np.searchsorted(numbers, column(matches, "number"), sorter=order)]
    flux, flux_error = (values[rows] for values in fluxes(catalogue, magnitudes))
    bright = np.isfinite(flux) & np.isfinite(flux_error) & (flux > settings.minimum_snr * flux_error)
    safe = np.where(bright, flux, 1.0)
    other_error = np.hypot(column(matches, "reference_mag_error"), column(matches, "blend_error_mag"))
    columns = {
        "flux": flux,
        "flux_error": flux_error,
        "zeropoint_mag": column(matches, "reference_mag").astype(np.float64) + 2.5 * np.log10(safe),
        "zeropoint_error_mag": np.hypot(other_error, MAG_PER_RELATIVE_FLUX * flux_error / safe),
        "used": column(matches, "used").astype(bool) & bright,
    }
    for name, values in columns.items():
        matches = with_column(matches, name, values)
    return matches

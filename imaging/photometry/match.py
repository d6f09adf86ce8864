"""Match catalogue sources to reference stars for the zero point."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.astrometry.reference import ReferenceStars
from imaging.bits import NO_WEIGHT
from imaging.catalogue.build import nullable
from imaging.catalogue.flags import CatalogueFlag
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.photometry.colours import BandMagnitudes
from imaging.photometry.settings import PhotometrySettings
from imaging.schemas.matches import ZEROPOINT_MATCHES
from imaging.tables import column, make_table
from imaging.wcs.sphere import polygon_centre
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

REFUSED = (
    CatalogueFlag.DEBLENDED | CatalogueFlag.SATURATED | CatalogueFlag.TRUNCATED | CatalogueFlag.APERTURE_INCOMPLETE
)
"""Sources with these flags are not used for calibration; faint neighbours are handled by the PSF fit."""

MAG_PER_RELATIVE_FLUX = 2.5 / np.log(10.0)

BLEND_ERROR = 3.0
"""Rms change of PSF fluxes by hidden neighbours, in units of the flux's error times the root of the excess of the
reduced chi-square: of highest likelihood for the scatter of the stars of crowded simulated CCDs in r and z. A neighbour
of which the fit takes up as much as it leaves would give the root of the number of pixels, 8 to 14."""


def match_reference(
    catalogue: pa.Table,
    reference: ReferenceStars,
    magnitudes: BandMagnitudes,
    settings: PhotometrySettings,
) -> pa.Table:
    """Match a CCD's catalogue to reference stars and compute the zero point of each pair.

    Pairs must be mutual nearest neighbours, and closer than a limit in units of the error, which includes the positions
    of source and star and a floor. Saturated, blended, masked, extended and faint sources, and stars with neighbours or
    without a magnitude, are kept in the table with ``used`` false.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`, with the final positions on the sky.
    reference
        Stars at the epoch of the exposure.
    magnitudes
        Their magnitudes in the band, in the same order.
    settings
        Limits.

    Returns
    -------
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`.
    """
    if catalogue.num_rows == 0 or len(reference) == 0:
        return ZEROPOINT_MATCHES.empty_table()
    ra, dec = column(catalogue, "ra"), column(catalogue, "dec")
    centre = polygon_centre(np.stack([ra, dec], axis=-1))
    sources = np.stack(sky_to_plane(ra, dec, *centre), axis=-1) * 3600.0
    near = np.flatnonzero(np.isfinite(magnitudes.mag))
    stars = np.stack(sky_to_plane(reference.ra[near], reference.dec[near], *centre), axis=-1) * 3600.0
    ahead = np.isfinite(stars).all(axis=1)
    near, stars = near[ahead], stars[ahead]
    if near.size == 0:
        return ZEROPOINT_MATCHES.empty_table()
    found, wanted, separation = _pairs(sources, stars, settings)
    wanted = near[wanted]
    chi = separation / _separation_error(catalogue, reference, found, wanted, settings)
    close = chi < settings.match_chi
    return _table(catalogue, reference, magnitudes, found[close], wanted[close], separation[close], settings)


def _pairs(
    sources: FloatArray, stars: FloatArray, settings: PhotometrySettings
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the pairs of mutual nearest neighbours within the radius and their separations in arcseconds."""
    distance, nearest = cKDTree(stars).query(sources, distance_upper_bound=settings.match_radius_arcsec)
    _, back = cKDTree(sources).query(stars)
    found = np.flatnonzero(np.isfinite(distance))
    found = found[back[nearest[found]] == found]
    return found, nearest[found], distance[found]


def _separation_error(
    catalogue: pa.Table, reference: ReferenceStars, found: IntArray, wanted: IntArray, settings: PhotometrySettings
) -> FloatArray:
    centroid = np.hypot(_float(catalogue, "x_error")[found], _float(catalogue, "y_error")[found]) / np.sqrt(2.0)
    position = np.hypot(reference.ra_error_mas[wanted], reference.dec_error_mas[wanted]) / np.sqrt(2.0)
    error_mas = np.sqrt(
        (1000.0 * PIXEL_SCALE_ARCSEC * np.nan_to_num(centroid)) ** 2 + position**2 + settings.position_floor_mas**2
    )
    return error_mas / 1000.0


def _float(table: pa.Table, name: str) -> FloatArray:
    return column(table, name).astype(np.float64)


def _table(
    catalogue: pa.Table,
    reference: ReferenceStars,
    magnitudes: BandMagnitudes,
    found: IntArray,
    wanted: IntArray,
    separation: FloatArray,
    settings: PhotometrySettings,
) -> pa.Table:
    flux, flux_error = _float(catalogue, "flux_psf")[found], _float(catalogue, "flux_psf_error")[found]
    measured = np.isfinite(flux) & np.isfinite(flux_error) & (flux > 0)
    found, wanted, separation = found[measured], wanted[measured], separation[measured]
    flux, flux_error = flux[measured], flux_error[measured]
    mag, mag_error = magnitudes.mag[wanted], magnitudes.mag_error[wanted]
    error = np.hypot(mag_error, MAG_PER_RELATIVE_FLUX * flux_error / flux)
    blend_error = blend_error_mag(catalogue, found)
    used = _stellar(catalogue, found, settings)
    used &= (flux > settings.minimum_snr * flux_error) & (mag_error < settings.reference_error_limit_mag)
    used &= reference.good[wanted] & magnitudes.usable[wanted]
    colour, colour_error = (nullable(values[wanted]) for values in (reference.colour_mag, reference.colour_error_mag))
    taken = catalogue.take(pa.array(found))
    columns = {name: taken.column(name).combine_chunks() for name in ("expnum", "band", "night", "ccd", "number")}
    columns |= {
        "source_id": reference.source_id[wanted],
        "x": column(taken, "x"),
        "y": column(taken, "y"),
        "flux": flux.astype(np.float32),
        "flux_error": flux_error.astype(np.float32),
        "reference_mag": mag.astype(np.float32),
        "reference_mag_error": mag_error.astype(np.float32),
        "reference": ["gaia"] * wanted.size if magnitudes.catalogue is None else magnitudes.catalogue[wanted].tolist(),
        "colour_mag": colour,
        "colour_error_mag": colour_error,
        "separation_arcsec": separation.astype(np.float32),
        "zeropoint_mag": mag + 2.5 * np.log10(flux),
        "zeropoint_error_mag": np.hypot(error, blend_error).astype(np.float32),
        "blend_error_mag": blend_error.astype(np.float32),
        "used": used,
        "transparency": np.ones(wanted.size, np.float32),
    }
    return make_table(columns, ZEROPOINT_MATCHES)


def blend_error_mag(catalogue: pa.Table, rows: IntArray) -> FloatArray:
    """Return the errors of magnitudes by neighbours that are too close to be detected.

    Such neighbours make stars brighter and zero points larger; the image is then not the PSF.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    rows
        (n,) rows of it.

    Returns
    -------
    error_mag
        (n,) zero where the PSF fits, or was not fitted.
    """
    flux, error, chi2 = (_float(catalogue, name)[rows] for name in ("flux_psf", "flux_psf_error", "chi2_psf"))
    relative = np.divide(error, flux, out=np.zeros(rows.size), where=flux > 0.0)
    return MAG_PER_RELATIVE_FLUX * BLEND_ERROR * relative * np.sqrt(np.fmax(chi2, 1.0) - 1.0)


def _stellar(catalogue: pa.Table, found: IntArray, settings: PhotometrySettings) -> NDArray[np.bool_]:
    """Return which sources are stars with good pixels."""
    flags, mask = column(catalogue, "flags")[found], column(catalogue, "mask")[found]
    spread, error = _float(catalogue, "spread_model")[found], _float(catalogue, "spread_model_error")[found]
    star = np.abs(spread) < np.maximum(settings.spread_limit, 3.0 * error)
    return star & ((flags & int(REFUSED)) == 0) & ((mask & int(NO_WEIGHT)) == 0)

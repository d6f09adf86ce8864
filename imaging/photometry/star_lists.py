"""Calibration-star lists (SNSTAR) and bright-star veto lists (SNVETO) in the original pipeline's format.

Calibration stars are selected from calibrated catalogues of one or several exposures. Vetoes are selected from the
reference catalogue, so that they include saturated stars, which the original pipeline's own catalogues did not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from imaging.settings import Settings
from imaging.tables import column
from imaging.wcs.sphere import unit_vectors

FloatArray = NDArray[np.float64]

VETO_TYPE = 6
"""Veto type; the original pipeline has only this one."""


class StarListSettings(Settings):
    """Selection of calibration stars and vetoes."""

    spread_limit: float = Field(default=0.003, gt=0.0)
    """Largest absolute SPREAD_MODEL of a calibration star (one-sided limit in the original pipeline)."""
    mag_bright: float = 12.0
    """Brightest calibration star, magnitudes."""
    mag_faint: float = 21.5
    """Faintest calibration star, magnitudes."""
    maximum_error_mag: float = Field(default=0.011, gt=0.0)
    """Largest error of a calibration star's magnitude."""
    same_star_arcsec: float = Field(default=1.0, gt=0.0)
    """Match radius of stars from several exposures."""
    veto_mag_faint: float = 16.0
    """Faintest star with a veto, in the band, or in Gaia G if unknown in the band. Residuals of fainter stars are
    covered by the masks of the difference."""


@dataclass(frozen=True, eq=False)
class StarList:
    """Stars in order of right ascension; every array is (n,).

    Attributes
    ----------
    ra, dec
        Degrees.
    mag, mag_error
        Magnitudes in the band.
    radius_arcsec
        Radius of the veto, arcseconds; None for calibration stars.
    """

    ra: FloatArray
    dec: FloatArray
    mag: FloatArray
    mag_error: FloatArray
    radius_arcsec: FloatArray | None = None

    def __len__(self) -> int:
        """Return the number of stars."""
        return self.ra.size

    def select(self, keep: NDArray[np.bool_]) -> "StarList":
        """Return the selected stars."""
        radius = None if self.radius_arcsec is None else self.radius_arcsec[keep]
        return StarList(self.ra[keep], self.dec[keep], self.mag[keep], self.mag_error[keep], radius)


def calibration_stars(catalogues: Sequence[pa.Table], settings: StarListSettings) -> StarList:
    """Select and merge the calibration stars of calibrated catalogues.

    Parameters
    ----------
    catalogues
        Tables of :func:`imaging.photometry.original.calibrated_catalogue`, of any number of exposures and CCDs.
    settings
        Limits.

    Returns
    -------
    stars
        Mean position, median magnitude and error of the mean of the detections of each star.
    """
    rows = [_good_stars(table, settings) for table in catalogues]
    ra, dec, mag, error = np.concatenate([np.zeros((4, 0)), *rows], axis=1)
    if ra.size == 0:
        return StarList(ra, dec, mag, error)
    group = _groups(ra, dec, settings.same_star_arcsec)
    n = int(group.max()) + 1
    count = np.bincount(group, minlength=n)
    vectors = np.stack([np.bincount(group, axis, n) for axis in unit_vectors(ra, dec).T], axis=-1) / count[:, None]
    merged_ra = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360.0
    merged_dec = np.degrees(np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1])))
    order = np.lexsort((mag, group))
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    middle = 0.5 * (mag[order[first + (count - 1) // 2]] + mag[order[first + count // 2]])
    merged_error = np.sqrt(np.bincount(group, error**2, n)) / count
    by_ra = np.argsort(merged_ra, kind="stable")
    return StarList(merged_ra[by_ra], merged_dec[by_ra], middle[by_ra], merged_error[by_ra])


def veto_radius_arcsec(mag: FloatArray) -> FloatArray:
    """Return the radius of the veto around a star, arcseconds: 30 at magnitude 15, 2 less per magnitude fainter."""
    return np.maximum(30.0 - 2.0 * (mag - 15.0), 0.0)


def veto_stars(
    ra_deg: FloatArray, dec_deg: FloatArray, mag: FloatArray, g_mag: FloatArray, settings: StarListSettings
) -> StarList:
    """Select the stars of the reference catalogue with a veto, without a bright limit.

    Parameters
    ----------
    ra_deg, dec_deg
        (n,) positions at the epoch of the exposure.
    mag, g_mag
        (n,) magnitudes in the band, NaN if unknown, and Gaia G, which is then used instead.
    settings
        Limits.
    """
    known = np.where(np.isfinite(mag), mag, g_mag)
    chosen = np.flatnonzero(known <= settings.veto_mag_faint)
    chosen = chosen[np.argsort(ra_deg[chosen], kind="stable")]
    error = np.where(np.isfinite(mag[chosen]), 0.02, 0.5)
    radius = veto_radius_arcsec(known[chosen])
    return StarList(ra_deg[chosen], dec_deg[chosen], known[chosen], error, radius)


def list_text(stars: StarList, band: str, version: str) -> str:
    """Format a list for the original pipeline: tab-separated, with its header lines.

    Parameters
    ----------
    stars
        Calibration stars, or vetoes.
    band
        Band.
    version
        Version tag, such as r4p5.
    """
    names = ["OBJID", "RA", "DEC", f"mag_{band}", f"magerr_{band}"]
    if stars.radius_arcsec is not None:
        names += ["radius", "vtype"]
    table = "SNVETO" if stars.radius_arcsec is not None else "SNSTAR"
    lines = [
        "# ASSOC format for Sextractor input.",
        f"# Star Source: {table} table, CATALOG= {version}",
        f"# NVAR: {len(names)}",
        f"# VARNAMES: {' '.join(names)}",
    ]
    for k in range(len(stars)):
        words = [
            str(k + 1),
            f"{stars.ra[k]:.6f}",
            f"{stars.dec[k]:.6f}",
            f"{stars.mag[k]:.4f}",
            f"{stars.mag_error[k]:.4f}",
        ]
        if stars.radius_arcsec is not None:
            words += [f"{stars.radius_arcsec[k]:.6f}", str(VETO_TYPE)]
        lines.append("\t".join(words))
    return "\n".join(lines) + "\n"


def _good_stars(table: pa.Table, settings: StarListSettings) -> FloatArray:
    """Return (4, n) right ascension, declination, magnitude and error of the calibration stars."""
    names = ("ALPHAWIN_J2000", "DELTAWIN_J2000", "MAG_PSF", "MAGERR_PSF")
    ra, dec, mag, error = (column(table, name).astype(float) for name in names)
    good = np.abs(column(table, "SPREAD_MODEL").astype(float)) < settings.spread_limit
    good &= (column(table, "FLAGS") == 0) & (column(table, "IMAFLAGS_ISO") == 0)
    good &= (mag > settings.mag_bright) & (mag < settings.mag_faint)
    good &= (error > 0) & (error <= settings.maximum_error_mag)
    return np.stack([ra, dec, mag, error])[:, good]


def _groups(ra: FloatArray, dec: FloatArray, radius_arcsec: float) -> NDArray[np.int64]:
    """Return the group number of each position; positions closer than a radius are linked."""
    chord = 2.0 * np.sin(np.radians(radius_arcsec / 3600.0) / 2.0)
    pairs = cKDTree(unit_vectors(ra, dec)).query_pairs(chord, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(ra.size, ra.size))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)

"""Propagate reference stars to the epoch of the exposure, and select those usable for astrometry."""

from dataclasses import dataclass

import erfa
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.astrometry.settings import AstrometrySettings
from imaging.tables import column
from imaging.wcs.sphere import unit_vectors

FloatArray = NDArray[np.float64]

MAS = np.radians(1.0 / 3.6e6)
"""One milliarcsecond in radians."""

J2000_MJD = 51544.5
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, eq=False)
class ReferenceStars:
    """Reference stars at one epoch; every array is (n,).

    Attributes
    ----------
    source_id
        int64, identifier.
    ra, dec
        float64, degrees, ICRS, at the epoch, with parallax.
    ra_error_mas, dec_error_mas
        float64, errors at the epoch; that of ra times cos(dec).
    g_mag
        float64, Gaia G.
    colour_mag, colour_error_mag
        float64, BP - RP and its error; NaN if unknown.
    good
        bool, usable for astrometry: within the magnitude limits, low RUWE, isolated.
    """

    source_id: NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray
    ra_error_mas: FloatArray
    dec_error_mas: FloatArray
    g_mag: FloatArray
    colour_mag: FloatArray
    colour_error_mag: FloatArray
    good: NDArray[np.bool_]

    def __len__(self) -> int:
        return self.ra.size

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "ReferenceStars":
        """Return the selected stars."""
        return ReferenceStars(
            *(getattr(self, name)[keep] for name in self.__dataclass_fields__)  # fields in order
        )


def reference_at_epoch(stars: pa.Table, mjd: float, settings: AstrometrySettings) -> ReferenceStars:
    """Move reference stars to the epoch of an exposure.

    Proper motion and parallax are applied to unit vectors, so that the poles need no special treatment; the position of
    the Earth is that of ERFA's epv00. Light deflection and aberration are absorbed by the fitted pointing.

    Parameters
    ----------
    stars
        Columns of :data:`imaging.schemas.reference.REFERENCE_STARS`.
    mjd
        Middle of the exposure, UTC.
    settings
        Limits of the selection.
    """
    ra, dec = column(stars, "ra"), column(stars, "dec")
    years = 2000.0 + (mjd - J2000_MJD) / DAYS_PER_YEAR - column(stars, "ref_epoch")
    known = np.isfinite(_float(stars, "pmra")) & np.isfinite(_float(stars, "pmdec"))
    motion = [np.nan_to_num(_float(stars, name)) * MAS * years for name in ("pmra", "pmdec")]
    parallax = np.nan_to_num(_float(stars, "parallax")) * MAS
    east, north = _tangents(ra, dec)
    _, barycentric = erfa.epv00(2400000.5, mjd)
    earth = np.asarray(barycentric["p"], dtype=float)
    vector = unit_vectors(ra, dec)
    vector = vector + motion[0][:, None] * east + motion[1][:, None] * north - parallax[:, None] * earth
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    errors = [
        _error_at_epoch(_float(stars, position), _float(stars, rate), years, known, settings)
        for position, rate in (("ra_error", "pmra_error"), ("dec_error", "pmdec_error"))
    ]
    g_mag = _float(stars, "phot_g_mean_mag")
    ruwe = _float(stars, "ruwe")
    good = (g_mag > settings.reference_mag_bright) & (g_mag < settings.reference_mag_limit)
    good &= ~(ruwe > settings.maximum_ruwe) & _isolated(vector, g_mag, settings)
    return ReferenceStars(
        source_id=column(stars, "source_id"),
        ra=np.degrees(np.arctan2(vector[:, 1], vector[:, 0])) % 360.0,
        dec=np.degrees(np.arctan2(vector[:, 2], np.hypot(vector[:, 0], vector[:, 1]))),
        ra_error_mas=errors[0],
        dec_error_mas=errors[1],
        g_mag=g_mag,
        colour_mag=_float(stars, "phot_bp_mean_mag") - _float(stars, "phot_rp_mean_mag"),
        colour_error_mag=np.hypot(_float(stars, "phot_bp_mean_mag_error"), _float(stars, "phot_rp_mean_mag_error")),
        good=good,
    )


def _float(stars: pa.Table, name: str) -> FloatArray:
    """Return a column as float64, nulls as NaN."""
    return column(stars, name).astype(np.float64)


def _tangents(ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the (n, 3) unit vectors to the east and to the north."""
    a, d = np.radians(ra), np.radians(dec)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=-1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=-1)
    return east, north


def _error_at_epoch(
    position: FloatArray, rate: FloatArray, years: FloatArray, known: NDArray[np.bool_], settings: AstrometrySettings
) -> FloatArray:
    unknown = settings.unknown_motion_mas_per_year
    rate = np.where(known & np.isfinite(rate), rate, unknown)
    return np.hypot(np.where(np.isfinite(position), position, 1.0), rate * years)


def _isolated(vector: FloatArray, g_mag: FloatArray, settings: AstrometrySettings) -> NDArray[np.bool_]:
    """Return which stars have no neighbour that is close and bright enough to disturb them."""
    alone = np.ones(len(vector), bool)
    if len(vector) < 2 or settings.isolation_arcsec == 0.0:
        return alone
    pairs = cKDTree(vector).query_pairs(settings.isolation_arcsec * 1000.0 * MAS, output_type="ndarray")
    first, second = pairs[:, 0], pairs[:, 1]
    alone[first[g_mag[second] < g_mag[first] + settings.isolation_mag]] = False
    alone[second[g_mag[first] < g_mag[second] + settings.isolation_mag]] = False
    return alone

"""Select the reference catalogue for the magnitude of each calibration star.

Surveys in the camera's own bands are more accurate than a transformation of Gaia's broad bands. Catalogues are searched
in order of preference; a star gets its magnitude from the first that has one in the band, and Gaia, which covers the
sky, is the last. Positions are always Gaia's.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.photometry.colours import BandMagnitudes
from imaging.tables import column
from imaging.wcs.sphere import unit_vectors

FloatArray = NDArray[np.float64]

GAIA = "gaia"
"""Name of the catalogue of positions."""

MATCH_ARCSEC = 0.7
"""Match radius between Gaia stars, moved to a survey's epoch, and survey stars."""


def cascade_magnitudes(
    stars: pa.Table, gaia: BandMagnitudes, surveys: Mapping[str, pa.Table], preference: Sequence[str], band: str
) -> BandMagnitudes:
    """Return each star's magnitude from the first catalogue that has one.

    Parameters
    ----------
    stars
        Gaia stars: columns of :data:`imaging.schemas.reference.REFERENCE_STARS`.
    gaia
        Their magnitudes in the band by colour.
    surveys
        Name of a survey to its stars: columns of :data:`imaging.schemas.reference.CALIBRATED_STARS`.
    preference
        Names in order of preference; names other than ``gaia`` and the surveys are skipped.
    band
        Band name.

    Returns
    -------
    magnitudes
        One per star, with its catalogue. Known variables remain unusable.
    """
    n = stars.num_rows
    mag, error = np.full(n, np.nan), np.full(n, np.nan)
    catalogue = np.full(n, GAIA, dtype=object)
    usable, open_ = np.zeros(n, bool), np.ones(n, bool)
    steady = ~np.asarray(stars.column("variable").fill_null(False).to_numpy(), dtype=bool)
    for name in preference:
        if name == GAIA:
            found, found_error, good = gaia.mag, gaia.mag_error, gaia.usable
        elif name in surveys:
            found, found_error = _survey_magnitudes(stars, surveys[name], band)
            good = np.isfinite(found) & np.isfinite(found_error) & steady
        else:
            continue
        take = open_ & good
        mag[take], error[take], catalogue[take] = found[take], found_error[take], name
        usable |= take
        open_ &= ~take
    return BandMagnitudes(mag, error, usable, catalogue.astype(str))


def _survey_magnitudes(stars: pa.Table, survey: pa.Table, band: str) -> tuple[FloatArray, FloatArray]:
    """Return a survey's magnitudes and errors of Gaia stars, NaN if missing; pairs are mutual nearest neighbours."""
    mag, error = np.full(stars.num_rows, np.nan), np.full(stars.num_rows, np.nan)
    if f"mag_{band}" not in survey.column_names or survey.num_rows == 0 or stars.num_rows == 0:
        return mag, error
    here = _vectors_at(stars, float(column(survey, "ref_epoch")[0]))
    there = unit_vectors(column(survey, "ra"), column(survey, "dec"))
    limit = 2.0 * np.sin(np.radians(MATCH_ARCSEC / 3600.0) / 2.0)
    distance, nearest = cKDTree(there).query(here, distance_upper_bound=limit)
    found = np.flatnonzero(np.isfinite(distance))
    _, back = cKDTree(here).query(there[nearest[found]])
    found = found[back == found]
    mag[found] = column(survey, f"mag_{band}").astype(float)[nearest[found]]
    error[found] = column(survey, f"mag_{band}_error").astype(float)[nearest[found]]
    return mag, error


def _vectors_at(stars: pa.Table, epoch_yr: float) -> FloatArray:
    """Return unit vectors of Gaia stars moved to an epoch; unknown proper motions count as zero."""
    ra, dec = column(stars, "ra"), column(stars, "dec")
    years = epoch_yr - column(stars, "ref_epoch")
    motion_ra, motion_dec = (np.nan_to_num(column(stars, name).astype(float)) / 3.6e6 for name in ("pmra", "pmdec"))
    cosine = np.maximum(np.cos(np.radians(dec)), 1e-6)
    return unit_vectors(ra + motion_ra * years / cosine, dec + motion_dec * years)

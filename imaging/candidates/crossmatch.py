"""Cross-match candidates with reference stars and with point sources of the template."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.candidates.points import ARCSEC, FloatArray
from imaging.candidates.settings import CrossmatchSettings
from imaging.schemas.candidates import CANDIDATES, CandidateFlag
from imaging.schemas.fields import NO_ID
from imaging.tables import column
from imaging.wcs.sphere import unit_vectors

MJD_J2000 = 51544.5
JULIAN_YEAR_DAYS = 365.25


def match_reference_stars(candidates: pa.Table, stars: pa.Table, mjd: float, settings: CrossmatchSettings) -> pa.Table:
    """Find the nearest reference star of each candidate and flag stars, variables and halos.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    stars
        Rows of :data:`imaging.schemas.reference.REFERENCE_STARS` around them.
    mjd
        Epoch to which the stars are moved, UTC.
    settings
        Radii.

    Returns
    -------
    candidates
        With the ``gaia_*`` columns and the flags KNOWN_VARIABLE, ON_STAR, ON_POINT_SOURCE and NEAR_STAR.
    """
    if stars.num_rows == 0 or candidates.num_rows == 0:
        return candidates
    places = unit_vectors(column(candidates, "ra"), column(candidates, "dec"))
    vectors = unit_vectors(*_positions_at(stars, mjd))
    reach = settings.star_radius_arcsec
    distance, nearest = cKDTree(vectors).query(places, distance_upper_bound=reach * ARCSEC)
    found = np.isfinite(distance)
    nearest = np.where(found, nearest, 0)
    separation = np.where(found, distance / ARCSEC, np.nan)
    same = found & (separation < _same_place(candidates, settings))
    variable = same & np.asarray(stars.column("variable").fill_null(False))[nearest].astype(bool)
    star = same & _moves(stars, settings)[nearest]
    flags = column(candidates, "flags").astype(np.int64)
    flags |= np.where(variable, int(CandidateFlag.KNOWN_VARIABLE), 0)
    flags |= np.where(star, int(CandidateFlag.ON_STAR), 0)
    flags |= np.where(same & ~star, int(CandidateFlag.ON_POINT_SOURCE), 0)
    flags |= np.where(_in_halo(places, vectors, stars, settings), int(CandidateFlag.NEAR_STAR), 0)
    return with_columns(
        candidates,
        gaia_source_id=np.where(found, column(stars, "source_id")[nearest], NO_ID),
        gaia_separation_arcsec=separation,
        gaia_g_mag=np.where(found, column(stars, "phot_g_mean_mag").astype(float)[nearest], np.nan),
        flags=flags,
    )


def match_point_sources(candidates: pa.Table, hosts: pa.Table, settings: CrossmatchSettings) -> pa.Table:
    """Flag candidates that coincide with a point source of the template (ON_POINT_SOURCE).

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    hosts
        Rows of :data:`imaging.schemas.hosts.HOSTS`; extended sources are ignored.
    settings
        Radii.
    """
    chosen = hosts.filter(hosts.column("point_like"))
    if chosen.num_rows == 0 or candidates.num_rows == 0:
        return candidates
    tree = cKDTree(unit_vectors(column(chosen, "ra"), column(chosen, "dec")))
    distance, _ = tree.query(unit_vectors(column(candidates, "ra"), column(candidates, "dec")))
    flags = column(candidates, "flags").astype(np.int64)
    same = distance / ARCSEC < _same_place(candidates, settings)
    return with_columns(candidates, flags=flags | np.where(same, int(CandidateFlag.ON_POINT_SOURCE), 0))


def with_columns(candidates: pa.Table, **columns: Any) -> pa.Table:  # noqa: ANN401
    """Return the candidates with some columns replaced; non-finite floats become null."""
    for name, values in columns.items():
        field = CANDIDATES.field(name)
        if isinstance(values, np.ndarray) and pa.types.is_floating(field.type):
            values = pa.array(values, type=field.type, mask=~np.isfinite(values))
        elif not isinstance(values, pa.Array | pa.ChunkedArray):
            values = pa.array(values, type=field.type)
        candidates = candidates.set_column(CANDIDATES.get_field_index(name), field, values.cast(field.type))
    return candidates


def _same_place(candidates: pa.Table, settings: CrossmatchSettings) -> FloatArray:
    return settings.same_place_arcsec + 3.0 * column(candidates, "position_error_arcsec").astype(float)


def _positions_at(stars: pa.Table, mjd: float) -> tuple[FloatArray, FloatArray]:
    years = 2000.0 + (mjd - MJD_J2000) / JULIAN_YEAR_DAYS - column(stars, "ref_epoch")
    dec = column(stars, "dec")
    motion_ra, motion_dec = (np.nan_to_num(column(stars, name).astype(float)) for name in ("pmra", "pmdec"))
    return (
        column(stars, "ra") + motion_ra * years / 3.6e6 / np.maximum(np.cos(np.radians(dec)), 1e-6),
        np.clip(dec + motion_dec * years / 3.6e6, -90.0, 90.0),
    )


def _moves(stars: pa.Table, settings: CrossmatchSettings) -> NDArray[np.bool_]:
    """Return which reference sources have a significant parallax or proper motion, hence are stars."""
    significant = np.zeros(stars.num_rows, dtype=bool)
    for name in ("parallax", "pmra", "pmdec"):
        value = column(stars, name).astype(float)
        error = column(stars, f"{name}_error").astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            significant |= np.nan_to_num(np.abs(value) / error) > settings.motion_significance
    return significant


def _in_halo(
    places: FloatArray, vectors: FloatArray, stars: pa.Table, settings: CrossmatchSettings
) -> NDArray[np.bool_]:
    mag = column(stars, "phot_g_mean_mag").astype(float)
    bright = np.flatnonzero(mag < settings.halo_limit_mag)
    near = np.zeros(len(places), dtype=bool)
    if len(bright) == 0:
        return near
    radius = np.maximum(settings.halo_radius_arcsec - settings.halo_slope_arcsec_per_mag * (mag[bright] - 15.0), 0.0)
    for found in cKDTree(places).query_ball_point(vectors[bright], radius * ARCSEC):
        near[found] = True
    return near

"""Associate transients with host galaxies by directional light radius (DLR).

The separation is measured in units of the galaxy's rms radius in the direction of the transient (Sullivan et al.
2006, ApJ 648, 868; Gupta et al. 2016, AJ 152, 154), so that a source on the edge of a large spiral is not associated
with a faint galaxy behind it.
"""

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from imaging.candidates.crossmatch import with_columns
from imaging.candidates.points import ARCSEC, FloatArray, IntArray
from imaging.candidates.settings import CrossmatchSettings
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.hosts import HOSTS
from imaging.schemas.reference import DistanceMethod
from imaging.tables import column, make_table
from imaging.wcs.sphere import unit_vectors
from imaging.wcs.tpv import TpvWcs

TRUNCATED_OR_SATURATED = 4 | 8
"""Extraction flags of sources with unreliable shapes."""


def hosts_of_catalogue(
    catalogue: pa.Table, wcs: TpvWcs, zeropoint_mag: float, settings: CrossmatchSettings
) -> pa.Table:
    """Convert the source catalogue of a template image to possible hosts and point sources.

    Parameters
    ----------
    catalogue
        Rows of :data:`imaging.schemas.catalogue.CATALOGUE` of one image.
    wcs
        Coordinates of that image.
    zeropoint_mag
        AB magnitude of one electron.
    settings
        Which sources are galaxies.

    Returns
    -------
    hosts
        Rows of :data:`imaging.schemas.hosts.HOSTS`; distances are null.
    """
    kept = (column(catalogue, "flags") & TRUNCATED_OR_SATURATED) == 0
    kept &= column(catalogue, "flux_auto") > 0
    chosen = catalogue.filter(pa.array(kept))
    x, y = column(chosen, "x"), column(chosen, "y")
    theta = np.radians(column(chosen, "theta_image").astype(float))
    angle, scale = _direction_on_sky(wcs, x, y, theta)
    _, scale_minor = _direction_on_sky(wcs, x, y, theta + np.pi / 2)
    n = chosen.num_rows
    return make_table(
        {
            "ra": column(chosen, "ra"),
            "dec": column(chosen, "dec"),
            "a_arcsec": column(chosen, "a_image") * scale,
            "b_arcsec": column(chosen, "b_image") * scale_minor,
            "position_angle_deg": angle,
            "mag": zeropoint_mag - 2.5 * np.log10(column(chosen, "flux_auto").astype(float)),
            "point_like": column(chosen, "spread_model") < settings.galaxy_spread_model,
            "distance_mpc": pa.nulls(n, pa.float32()),
            "distance_error_mpc": pa.nulls(n, pa.float32()),
            "distance_source": pa.nulls(n, pa.string()),
        },
        HOSTS,
    )


def add_distances(hosts: pa.Table, galaxies: pa.Table, settings: CrossmatchSettings) -> pa.Table:
    """Add distances from galaxy catalogues to hosts; galaxies without a counterpart in the template are appended.

    Of several entries for a galaxy the best is used: measured distances before spectroscopic and these before
    photometric redshifts, then that with the smallest relative error.

    Parameters
    ----------
    hosts
        Rows of :data:`imaging.schemas.hosts.HOSTS` with shapes.
    galaxies
        Rows of :data:`imaging.schemas.hosts.GALAXIES`; ``radius_arcsec``, ``distance_method`` and ``catalogue`` may be
        missing.
    settings
        Match radius, and size of galaxies without a shape.
    """
    if galaxies.num_rows == 0:
        return hosts
    galaxies = _best_first(galaxies, settings)
    nearest, matched = _match_galaxies(hosts, galaxies, settings)
    rows = np.flatnonzero(matched)
    owner, first = np.unique(nearest[rows], return_index=True)  # the best of a host comes first
    best = rows[first]
    point_like = np.asarray(hosts.column("point_like")).astype(bool)
    point_like[owner] = False
    for name in ("distance_mpc", "distance_error_mpc"):
        values = np.full(hosts.num_rows, np.nan)
        values[owner] = column(galaxies, name).astype(float)[best]
        hosts = _set(hosts, name, pa.array(values, type=pa.float32(), mask=~np.isfinite(values)))
    sources = np.full(hosts.num_rows, None, dtype=object)
    sources[owner] = np.array(_sources(galaxies), dtype=object)[best]
    hosts = _set(hosts, "distance_source", pa.array(sources, type=pa.string()))
    hosts = _set(hosts, "point_like", pa.array(point_like))
    return pa.concat_tables([hosts, _unshaped(_distinct(galaxies.filter(pa.array(~matched)), settings), settings)])


def _best_first(galaxies: pa.Table, settings: CrossmatchSettings) -> pa.Table:
    """Sort galaxies by the quality of their distances, the best first."""
    distance, error = (column(galaxies, name).astype(float) for name in ("distance_mpc", "distance_error_mpc"))
    relative = np.where(np.isfinite(error), error / distance, settings.unknown_distance_error)
    return galaxies.take(pa.array(np.lexsort((relative, -_method(galaxies)))))


def _distinct(galaxies: pa.Table, settings: CrossmatchSettings) -> pa.Table:
    """Keep the first of several entries of catalogues for the same galaxy."""
    if galaxies.num_rows == 0:
        return galaxies
    tree = cKDTree(unit_vectors(column(galaxies, "ra"), column(galaxies, "dec")))
    kept = np.ones(galaxies.num_rows, dtype=bool)
    for first, second in sorted(map(sorted, tree.query_pairs(settings.catalogue_match_arcsec * ARCSEC))):
        kept[second] &= not kept[first]
    return galaxies.filter(pa.array(kept))


def _method(galaxies: pa.Table) -> IntArray:
    """Return how the distances are known; unknown without the column."""
    if "distance_method" not in galaxies.column_names:
        return np.zeros(galaxies.num_rows, dtype=np.int64)
    return np.nan_to_num(column(galaxies, "distance_method").astype(float)).astype(np.int64)


def _sources(galaxies: pa.Table) -> list[str]:
    """Return catalogue and method of each distance: ``nedlvs, spectroscopic``."""
    n = galaxies.num_rows
    catalogues = galaxies.column("catalogue").to_pylist() if "catalogue" in galaxies.column_names else [None] * n
    methods = [DistanceMethod(method).name.lower() if method else None for method in _method(galaxies).tolist()]
    texts = (", ".join(filter(None, pair)) for pair in zip(catalogues, methods, strict=True))
    return [text or "catalogue" for text in texts]


def match_hosts(candidates: pa.Table, hosts: pa.Table, settings: CrossmatchSettings) -> pa.Table:
    """Associate each candidate with the galaxy of the smallest directional light radius.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    hosts
        Rows of :data:`imaging.schemas.hosts.HOSTS`; point sources are ignored.
    settings
        Limits.

    Returns
    -------
    candidates
        With the ``host_*`` columns and the flag NUCLEAR.
    """
    chosen = hosts.filter(pa.array(~np.asarray(hosts.column("point_like")).astype(bool)))
    n = candidates.num_rows
    candidate, galaxy, separation, dlr = _pairs(candidates, chosen, settings)
    order = np.lexsort((separation, dlr, candidate))
    first = order[np.unique(candidate[order], return_index=True)[1]] if len(order) else order
    copied = ("ra", "dec", "mag", "distance_mpc", "distance_error_mpc")
    sources = np.full(n, None, dtype=object)
    sources[candidate[first]] = np.array(chosen.column("distance_source").to_pylist(), dtype=object)[galaxy[first]]
    values = {name: np.full(n, np.nan) for name in (*copied, "separation_arcsec", "dlr")}
    for name in copied:
        values[name][candidate[first]] = column(chosen, name).astype(float)[galaxy[first]]
    values["separation_arcsec"][candidate[first]] = separation[first]
    values["dlr"][candidate[first]] = dlr[first]
    error = column(candidates, "position_error_arcsec").astype(float)
    nuclear = values["separation_arcsec"] < settings.nuclear_arcsec + 2.0 * error
    flags = column(candidates, "flags").astype(np.int64) & ~int(CandidateFlag.NUCLEAR)
    flags |= np.where(nuclear, int(CandidateFlag.NUCLEAR), 0)
    hosted = {f"host_{name}": value for name, value in values.items()}
    return with_columns(candidates, flags=flags, host_distance_source=pa.array(sources, type=pa.string()), **hosted)


def directional_light_radius(
    a_arcsec: FloatArray, b_arcsec: FloatArray, position_angle_deg: FloatArray, direction_deg: FloatArray
) -> FloatArray:
    """Return the radius of an ellipse in a direction, arcseconds.

    Parameters
    ----------
    a_arcsec, b_arcsec
        (n,) axes.
    position_angle_deg
        (n,) of the major axis, from north to east.
    direction_deg
        (n,) direction from the centre, from north to east.
    """
    angle = np.radians(direction_deg - position_angle_deg)
    return a_arcsec * b_arcsec / np.hypot(b_arcsec * np.cos(angle), a_arcsec * np.sin(angle))


def _pairs(
    candidates: pa.Table, hosts: pa.Table, settings: CrossmatchSettings
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Return candidate, galaxy, separation (arcsec) and separation in light radii of all plausible pairs."""
    a, b = (
        np.maximum(column(hosts, n).astype(float), settings.host_min_radius_arcsec) for n in ("a_arcsec", "b_arcsec")
    )
    a, b = (np.where(np.isnan(axis), settings.host_min_radius_arcsec, axis) for axis in (a, b))
    pa_deg = np.nan_to_num(column(hosts, "position_angle_deg").astype(float))
    nothing = np.empty(0, dtype=np.int64)
    if hosts.num_rows == 0 or candidates.num_rows == 0:
        return nothing, nothing, np.empty(0), np.empty(0)
    tree = cKDTree(unit_vectors(column(candidates, "ra"), column(candidates, "dec")))
    centre = unit_vectors(column(hosts, "ra"), column(hosts, "dec"))
    reach = np.minimum(settings.host_max_dlr * a, settings.host_max_separation_arcsec)
    near = tree.query_ball_point(centre, reach * ARCSEC, return_sorted=True)
    counts = np.array([len(found) for found in near])
    galaxy = np.repeat(np.arange(len(near)), counts)
    candidate = np.concatenate([np.asarray(found, dtype=np.int64) for found in near])
    separation, direction = _offset(
        column(hosts, "ra")[galaxy], column(hosts, "dec")[galaxy],
        column(candidates, "ra")[candidate], column(candidates, "dec")[candidate],
    )  # fmt: skip
    dlr = separation / directional_light_radius(a[galaxy], b[galaxy], pa_deg[galaxy], direction)
    kept = dlr < settings.host_max_dlr
    return candidate[kept], galaxy[kept], separation[kept], dlr[kept]


def _offset(ra0: FloatArray, dec0: FloatArray, ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return separation (arcsec) and direction (degrees from north to east) of nearby positions."""
    east = (np.mod(ra - ra0 + 180.0, 360.0) - 180.0) * np.cos(np.radians(0.5 * (dec + dec0))) * 3600.0
    north = (dec - dec0) * 3600.0
    return np.hypot(east, north), np.degrees(np.arctan2(east, north))


def _direction_on_sky(wcs: TpvWcs, x: FloatArray, y: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return position angle (degrees from north to east) and scale (arcsec per pixel) along image directions."""
    ra0, dec0 = wcs.pixel_to_sky(x, y)
    ra1, dec1 = wcs.pixel_to_sky(x + np.cos(theta), y + np.sin(theta))
    scale, angle = _offset(ra0, dec0, ra1, dec1)
    return angle, scale


def _match_galaxies(hosts: pa.Table, galaxies: pa.Table, settings: CrossmatchSettings) -> tuple[IntArray, np.ndarray]:
    """Return for each catalogued galaxy the index of the nearest extended host, and whether they match."""
    if hosts.num_rows == 0:
        return np.zeros(galaxies.num_rows, dtype=np.int64), np.zeros(galaxies.num_rows, dtype=bool)
    tree = cKDTree(unit_vectors(column(hosts, "ra"), column(hosts, "dec")))
    distance, nearest = tree.query(unit_vectors(column(galaxies, "ra"), column(galaxies, "dec")))
    axis = np.nan_to_num(column(hosts, "a_arcsec").astype(float))
    return nearest, distance / ARCSEC < np.maximum(settings.catalogue_match_arcsec, axis[nearest])


def _unshaped(galaxies: pa.Table, settings: CrossmatchSettings) -> pa.Table:
    distance = column(galaxies, "distance_mpc").astype(float)
    axis = settings.default_host_radius_kpc / (distance * 1e3) / ARCSEC
    if "radius_arcsec" in galaxies.column_names:  # the rms axis of an exponential disc is 1.03 half-light radii
        radius = column(galaxies, "radius_arcsec").astype(float)
        axis = np.where(radius > 0, radius, axis)
    return make_table(
        {
            "ra": column(galaxies, "ra"),
            "dec": column(galaxies, "dec"),
            "a_arcsec": axis,
            "b_arcsec": axis,
            "position_angle_deg": np.zeros(len(axis)),
            "mag": column(galaxies, "mag"),
            "point_like": np.zeros(len(axis), dtype=bool),
            "distance_mpc": distance,
            "distance_error_mpc": column(galaxies, "distance_error_mpc"),
            "distance_source": _sources(galaxies),
        },
        HOSTS,
    )


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(HOSTS.get_field_index(name), HOSTS.field(name), values)

"""Convert tables of galaxies, transients, variables and active nuclei to the columns that a night uses."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.reference.positions import known_positions
from imaging.reference.surveys import Survey
from imaging.schemas.reference import DistanceMethod, KnownKind
from imaging.tables import column, make_table

FloatArray = NDArray[np.float64]
Quantities = Mapping[str, Any]

LIGHT_KM_S = 299792.458
PECULIAR_KM_S = 300.0
"""Dispersion of peculiar velocities, in the distance error of a spectroscopic redshift."""

GLADEPLUS_FLAGS = {
    0: DistanceMethod.UNKNOWN,
    1: DistanceMethod.PHOTOMETRIC,
    2: DistanceMethod.MEASURED,
    3: DistanceMethod.SPECTROSCOPIC,
}
"""Distance flag of GLADE+ to how the distance is known."""

NUCLEI = ("AGN", "QSO", "BLLAC", "BLAZAR", "Q", "A", "B")
STARS = ("CV", "NOVA", "VARSTAR", "M DWARF", "LBV", "GALACTIC NOVA", "VS", "BS")
"""Types of sources in lists of transients and of variables that are active nuclei and stars."""

NOT_VARIABLE = ("GALAXY",)
"""Classes of Gaia's variables whose variability is an artefact of their extent."""

TIME_ZEROS = {"jdmin": -2400000.5, "peakt": 57999.5}
"""Offset to MJD of a column of times: Julian dates, and those after 2458000; other columns are MJD."""

BAD_MAG = 40.0
"""Magnitudes from here on stand for an unknown one."""

FARTHEST_MPC = 1e5
"""Distances from here on stand for an unknown one; a redshift of 8 is at 8.1e4 Mpc."""


def convert(source: pa.Table, survey: Survey, where: str = "") -> pa.Table:
    """Convert rows of a catalogue of context.

    Parameters
    ----------
    source
        Columns of :meth:`imaging.reference.surveys.Survey.source_types`.
    survey
        Layout of the catalogue.
    where
        Name of the source, for error messages.

    Returns
    -------
    table
        Columns of the survey's schema. Rows without a position, galaxies without a distance and sources that are
        not what the catalogue is used for are omitted.

    Raises
    ------
    InputError
        If a required column is missing, or a position or flag cannot be.
    """
    chosen = survey.chosen(source, where)
    try:
        return _converted(source, survey, chosen, where)
    except (ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"table of {survey.name} cannot be read: {reason}", value=where) from error


def _converted(source: pa.Table, survey: Survey, chosen: Mapping[str, str], where: str) -> pa.Table:
    types = survey.source_types()
    found = {
        quantity: values if survey.sexagesimal and pa.types.is_floating(values.type) else values.cast(types[name])
        for quantity, name in chosen.items()
        for values in [source.column(name)]
    }
    ra, dec = (_angles(found[name], hours=name == "ra") for name in ("ra", "dec"))
    known = known_positions(ra, dec, survey.name, where)
    columns = {"source_id": _identifiers(found), "ra": ra % 360.0, "dec": dec}
    rows = _known(found, survey, chosen) if survey.kind is not None else _galaxies(found, survey, where)
    keep = known & rows.pop("keep")
    return make_table({**columns, **rows}, survey.schema).filter(pa.array(keep))


def _number(found: Quantities, name: str) -> FloatArray | None:
    """Return a quantity, NaN where unknown; None if the table lacks it."""
    return None if name not in found else column(pa.table({"x": found[name]}), "x").astype(np.float64)


def _numbers(found: Quantities, name: str, n: int) -> FloatArray:
    values = _number(found, name)
    return np.full(n, np.nan) if values is None else values


def _magnitudes(found: Quantities, name: str, n: int) -> FloatArray:
    """Return magnitudes, NaN where unknown: 0 in Milliquas, 99 or -999 elsewhere."""
    values = _numbers(found, name, n)
    return np.where((np.abs(values) < BAD_MAG) & (values != 0.0), values, np.nan)


def _upper(found: Quantities, name: str, n: int) -> NDArray[np.str_]:
    """Return a text in capitals without surrounding blanks; empty where unknown."""
    if name not in found:
        return np.full(n, "")
    return np.asarray(pc.utf8_upper(pc.utf8_trim_whitespace(found[name].fill_null(""))).to_pylist(), dtype=np.str_)


def _angles(values: pa.ChunkedArray, *, hours: bool) -> FloatArray:
    """Return degrees of numbers, or of texts in degrees or sexagesimal (right ascension in hours)."""
    if not pa.types.is_string(values.type):
        return column(pa.table({"x": values}), "x").astype(np.float64)
    return np.array([np.nan if not text else _angle(text, 15.0 if hours else 1.0) for text in values.to_pylist()])


def _angle(text: str, unit: float) -> float:
    parts = text.replace(":", " ").split()
    if len(parts) == 1:
        return float(parts[0])
    whole, minutes, seconds = (*map(float, parts), 0.0)[:3]
    size = abs(whole) + minutes / 60.0 + seconds / 3600.0
    return unit * (-size if parts[0].startswith("-") else size)


def _identifiers(found: Quantities) -> pa.Array:
    """Return the identifiers of the source, or 63 bits of a hash of the names."""
    if "id" in found:
        return found["id"].fill_null(-1).combine_chunks()
    if "object" in found:  # as in the Legacy Surveys' TARGETID
        release, brick, number = (
            np.nan_to_num(_numbers(found, n, 0)).astype(np.int64) for n in ("release", "brick", "object")
        )
        return pa.array((release << 42) | (brick << 22) | number)
    names = found["name"].to_pylist() if "name" in found else map(repr, zip(found["ra"], found["dec"], strict=True))
    return pa.array([xxhash.xxh3_64_intdigest(str(name).encode()) >> 1 for name in names], type=pa.int64())


# ---- galaxies


def _galaxies(found: Quantities, survey: Survey, where: str) -> dict[str, Any]:
    """Return the columns of galaxies beside identifier and position, and which rows to keep."""
    n = len(found["ra"])
    redshift, redshift_error = _numbers(found, "redshift", n), _numbers(found, "redshift_error", n)
    method, redshift, keep = _METHODS.get(survey.name, _method_of_own)(found, redshift, where)
    if "spectroscopic" in found:  # the error is that of the photometric redshift
        redshift_error = np.where(method == DistanceMethod.PHOTOMETRIC, redshift_error, 0.0)
    by_redshift, by_redshift_error = _from_redshift(redshift, redshift_error, method)
    distance, error = _numbers(found, "distance", n), _numbers(found, "distance_error", n)
    given = (distance > 0) & (distance < FARTHEST_MPC)
    distance = np.where(given, distance, by_redshift)
    error = np.where(given & (error > 0), error, np.where(given & np.isfinite(by_redshift), np.nan, by_redshift_error))
    mag_i = _magnitudes(found, "mag_i", n)
    for band in ("flux_i", "flux_z"):
        if band in found:
            flux = _numbers(found, band, n)
            mag_i = np.where(np.isnan(mag_i) & (flux > 0), 22.5 - 2.5 * np.log10(np.maximum(flux, 1e-9)), mag_i)
    radius = _numbers(found, "radius", n)
    return {
        "redshift": _nullable(np.where(redshift > -1.0, redshift, np.nan)),
        "distance_mpc": _nullable(distance),
        "distance_error_mpc": _nullable(error),
        "mag_b": _nullable(_magnitudes(found, "mag_b", n)),
        "mag_i": _nullable(mag_i),
        "half_light_radius_arcsec": _nullable(np.where(radius > 0, radius, np.nan)),
        "distance_method": method.astype(np.int16),
        "keep": keep & np.isfinite(distance) & (distance > 0),
    }


def _nullable(values: FloatArray) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=~np.isfinite(values))


Method = tuple[NDArray[np.int64], FloatArray, NDArray[np.bool_]]


def _method_of_own(found: Quantities, redshift: FloatArray, where: str) -> Method:
    """Return how distances of a table of one's own are known: as its column says, else unknown."""
    flag = np.nan_to_num(_numbers(found, "distance_flag", len(redshift))).astype(np.int64)
    _refuse_flags(flag, set(map(int, DistanceMethod)), where)
    return flag, redshift, np.ones(len(flag), bool)


def _method_of_gladeplus(found: Quantities, redshift: FloatArray, where: str) -> Method:
    """Return how distances of GLADE+ are known; quasars and clusters are left out."""
    flag = np.nan_to_num(_numbers(found, "distance_flag", len(redshift))).astype(np.int64)
    _refuse_flags(flag, set(GLADEPLUS_FLAGS), where)
    kind = _upper(found, "type", len(flag))
    method = np.array([GLADEPLUS_FLAGS[value] for value in range(4)])[flag]
    return method, redshift, np.isin(kind, ("", "G", "NULL")) & (flag > 0)


def _refuse_flags(flag: NDArray[np.int64], known: set[int], where: str) -> None:
    unknown = sorted(set(np.unique(flag).tolist()) - known)
    if unknown:
        raise InputError("unknown distance flags", value=f"{where}: {unknown}", limit=str(sorted(known)))


def _method_of_nedlvs(found: Quantities, redshift: FloatArray, where: str) -> Method:  # noqa: ARG001
    """Return how distances of NED-LVS are known: of a redshift unless the method names another indicator."""
    n = len(redshift)
    technique, indicator = _upper(found, "technique", n), _upper(found, "method", n)
    method = np.where(
        np.char.startswith(technique, "S"),
        DistanceMethod.SPECTROSCOPIC,
        np.where(np.char.startswith(technique, "P"), DistanceMethod.PHOTOMETRIC, DistanceMethod.UNKNOWN),
    )
    measured = (indicator != "") & ~np.char.startswith(indicator, "REDSHIFT") & ~np.isin(indicator, ("NULL", "N/A"))
    return np.where(measured, DistanceMethod.MEASURED, method), redshift, ~np.isin(_upper(found, "type", n), NUCLEI)


def _method_of_ls(found: Quantities, redshift: FloatArray, where: str) -> Method:  # noqa: ARG001
    """Return how redshifts of the Legacy Surveys are known; point sources and duplicates are left out."""
    n = len(redshift)
    spectroscopic = _numbers(found, "spectroscopic", n)
    known = spectroscopic > 0
    method = np.where(known, DistanceMethod.SPECTROSCOPIC, DistanceMethod.PHOTOMETRIC)
    extended = ~np.isin(_upper(found, "type", n), ("PSF", "DUP"))
    return method, np.where(known, spectroscopic, redshift), extended


_METHODS: dict[str, Callable[[Quantities, FloatArray, str], Method]] = {
    "gladeplus": _method_of_gladeplus,
    "nedlvs": _method_of_nedlvs,
    "ls_dr10_photoz": _method_of_ls,
}


@lru_cache
def _distance_grid() -> tuple[FloatArray, FloatArray]:
    from astropy.cosmology import Planck18

    redshift = np.concatenate([[0.0], np.geomspace(1e-5, 8.0, 4000)])
    return redshift, np.concatenate([[0.0], Planck18.luminosity_distance(redshift[1:]).value])


def luminosity_distance_mpc(redshift: FloatArray) -> FloatArray:
    """Return luminosity distances (Planck 2018 cosmology); NaN for redshifts below zero or above eight."""
    grid, distance = _distance_grid()
    inside = (redshift > 0) & (redshift <= grid[-1])
    return np.where(inside, np.interp(np.where(inside, redshift, 0.0), grid, distance), np.nan)


def _from_redshift(redshift: FloatArray, error: FloatArray, method: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return distances of redshifts and their errors; peculiar velocities are added for spectroscopic redshifts."""
    known = np.where(error > 0, error, 0.0)
    width = np.where(method == DistanceMethod.PHOTOMETRIC, known, np.hypot(known, PECULIAR_KM_S / LIGHT_KM_S))
    distance = luminosity_distance_mpc(redshift)
    near = luminosity_distance_mpc(np.maximum(redshift - width, 1e-5))
    spread = 0.5 * (luminosity_distance_mpc(redshift + width) - near)
    return distance, np.where(width > 0, spread, np.nan)


# ---- known sources


def _known(found: Quantities, survey: Survey, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of known sources beside identifier and position, and which rows to keep."""
    n = len(found["ra"])
    kind = _upper(found, "type", n)
    stripped = np.char.rstrip(kind, ":?")
    keep = ~np.isin(stripped, NOT_VARIABLE) if survey.name == "gaia_variables" else np.ones(n, bool)
    if "variability" in found:  # VSX: 2 is constant or non-existing, 3 a duplicate
        keep &= _numbers(found, "variability", n) < 2
    kinds = np.full(n, int(survey.kind or KnownKind.TRANSIENT))
    kinds[np.isin(stripped, NUCLEI)] = KnownKind.NUCLEUS
    if survey.kind == KnownKind.TRANSIENT:
        kinds[np.isin(stripped, STARS)] = KnownKind.VARIABLE
    elif survey.kind == KnownKind.VARIABLE:
        kinds[stripped == "SN"] = KnownKind.TRANSIENT
    redshift = _numbers(found, "redshift", n)
    types = found["type"] if "type" in found else pa.nulls(n, pa.string())
    return {
        "name": _names(found, survey),
        "kind": kinds.astype(np.int16),
        "type": pc.if_else(pc.equal(pc.utf8_trim_whitespace(types), ""), None, pc.utf8_trim_whitespace(types)),
        "mjd": _mjd(found, chosen, n),
        "mag": _nullable(_magnitudes(found, "mag", n)),
        "redshift": _nullable(np.where(redshift > -1.0, redshift, np.nan)),
        "keep": keep,
    }


def _names(found: Quantities, survey: Survey) -> list[str]:
    if "name" not in found:
        return [f"{survey.name} {number}" for number in found["id"].to_pylist()]
    names = [(name or "").strip() or survey.name for name in found["name"].to_pylist()]
    if "prefix" not in found:
        return names
    prefixes = found["prefix"].to_pylist()
    return [f"{(prefix or '').strip()} {name}".strip() for prefix, name in zip(prefixes, names, strict=True)]


def _mjd(found: Quantities, chosen: Mapping[str, str], n: int) -> pa.Array:
    if "date" in found:
        texts = ["NaT" if not text or text.startswith("0000") else text for text in found["date"].to_pylist()]
        moments = np.array([text.strip().replace(" ", "T", 1) for text in texts], dtype="datetime64[ms]")
        mjd = (moments - np.datetime64("1858-11-17T00:00:00.000")) / np.timedelta64(86_400_000, "ms")
    else:
        mjd = _numbers(found, "mjd", n) + TIME_ZEROS.get(chosen.get("mjd", ""), 0.0)
    return pa.array(mjd, mask=~np.isfinite(mjd))

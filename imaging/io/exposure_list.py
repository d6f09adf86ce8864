"""Read and write exposure lists: search exposures of a night and possible template exposures.

This project writes comma-separated text with the columns of the original pipeline: EXPNUM, NITE, MJD, RA, DEC, BAND,
EXPTIME, PROPID, OBSTYPE, TEFF, OBJECT; RA and DEC are degrees. It reads all forms of :mod:`imaging.io.list_rows`. What
a list does not state is taken from the raw files.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imaging.errors import GWWorkflowError, InputError
from imaging.exposure import FIRST_MJD, LAST_MJD, MJD_EPOCH, Exposure, angle_deg, night_of
from imaging.identity import check_night
from imaging.io.atomic import write_text
from imaging.io.list_rows import COLUMNS, ListRow, ListRows, band_in, list_rows

REQUIRED = COLUMNS[:7]

POSSIBLE = {"MJD": (FIRST_MJD, LAST_MJD), "EXPTIME": (0.0, 1e4), "RA": (-360.0, 360.0), "DEC": (-90.0, 90.0)}
"""Ranges of the numbers of a line; the longest dark frames take an hour."""

MAX_T_EFF = 100.0
"""Largest effective exposure-time factor; the best nights have 2."""

SAME_PLACE_DEG = 0.05
"""Largest distance of a planned pointing from the exposure that was taken of it, degrees."""

SAME_EXPOSURE_DEG = 0.2
"""Largest distance of the position in a list from that in the raw file, degrees; inventories give it to 0.1 degree."""

ADD_RAW = "give the raw files to gw-workflow add-raw first"

NARROW = re.compile(r"N\d{3}")
"""Narrow filters (N395, N964), of which an inventory has exposures that are not processed."""


@dataclass(frozen=True, slots=True)
class ListedExposure:
    """One line of an exposure list.

    Attributes
    ----------
    exposure
        The exposure.
    t_eff
        Effective exposure-time factor; NaN if unknown.
    ccds
        CCDs of which there are images; None for all that work.
    corners
        Number of each image of a stack on the sky to its corners, RA and Dec in degrees; None for an exposure.
    first_mjd
        Time of the first exposure of a stack, MJD UTC; None for an exposure.
    """

    exposure: Exposure
    t_eff: float = math.nan
    ccds: tuple[int, ...] | None = None
    corners: Mapping[int, tuple[tuple[float, float], ...]] | None = None
    first_mjd: float | None = None


@dataclass(frozen=True, slots=True)
class GivenList:
    """An exposure list as somebody gave it.

    Attributes
    ----------
    listed
        Its exposures.
    notes
        What was left out, and why.
    """

    listed: tuple[ListedExposure, ...]
    notes: tuple[str, ...] = ()


def read_exposure_list(path: Path) -> tuple[ListedExposure, ...]:
    """Read an exposure list that states all that is needed.

    Raises
    ------
    InputError
        If the file is missing, lacks a column, has an invalid line, or lists an exposure twice.
    """
    return read_given_list(path, {}).listed


def read_given_list(path: Path, known: Mapping[int, Exposure]) -> GivenList:
    """Read an exposure list of any form.

    Parameters
    ----------
    path
        The file.
    known
        Exposure number to exposure of the raw files at hand. Exposures of which the list gives the number alone, or the
        position to 0.1 degree (``qcinv``), are taken from there; so are those of planned pointings without numbers.
        What a list states of the others must agree with them.

    Raises
    ------
    InputError
        If the file is missing, an exposure is not known well enough, a line is invalid or contradicts the raw file, or
        an exposure is listed twice.
    """
    path = Path(path)
    from imaging.io.damage import reading  # imports NumPy, astropy and pyarrow

    with reading(path, "exposure list missing or unreadable", "correct the list, or write it again"):
        found = list_rows(path.read_bytes(), path)
        if "EXPNUM" not in found.columns and "FILE" not in found.columns:
            return _planned(found, path, known)
        return _numbered(found, path, known)


def _numbered(found: ListRows, path: Path, known: Mapping[int, Exposure]) -> GivenList:
    """Return the exposures of a list with exposure numbers."""
    stated = found.columns | ({"MJD", "NITE"} if found.columns & {"MJD", "START", "CENTRE"} else set())
    missing = [name for name in REQUIRED[1:] if name not in stated]
    is_complete = not missing and found.first_mjd is None
    if missing and found.first_mjd is None and not known:
        lacking = f"{', '.join(missing)} in {path}"
        raise InputError("exposure list lacks columns", value=lacking, limit=", ".join(REQUIRED))
    listed: dict[int, ListedExposure] = {}
    left: dict[str, list[int]] = {}
    for row in found.rows:
        if row.values.get("PROCTYPE", "raw") != "raw" or row.values.get("INSTRUMENT", "decam").lower() != "decam":
            continue  # other products of the archive
        try:
            expnum = _expnum(row)
            item = _complete(row, expnum) if is_complete else _completed(row, expnum, known)
            if expnum in known and not isinstance(item, str):
                _require_same(row, known[expnum], found.first_mjd)
        except (TypeError, ValueError, GWWorkflowError) as error:
            problem = error.problem if isinstance(error, GWWorkflowError) and error.value is None else str(error)
            raise InputError("exposure list line not understood", value=f"{path}, {row.place}: {problem}") from error
        if isinstance(item, str):
            left.setdefault(item, []).append(expnum)
            continue
        if expnum in listed:
            raise InputError("exposure listed twice", value=f"{expnum} in {path}, {row.place}")
        listed[expnum] = item
    if left and not listed:
        raise InputError("no exposure of the list can be used", value=f"{path}: {next(iter(left))}", remedy=ADD_RAW)
    notes = tuple(f"{len(numbers)} of the list left: {why} ({_some(numbers)})" for why, numbers in left.items())
    return GivenList(tuple(listed.values()), notes)


def _some(numbers: list[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")


def _complete(row: ListRow, expnum: int) -> ListedExposure:
    """Return the exposure of a line that states all."""
    exptime = _number(row, "EXPTIME")
    if exptime == 0.0 and row.values.get("OBSTYPE", "object").lower() == "object":
        raise ValueError(f"column {row.name('EXPTIME')}: 0 for an exposure of the sky")
    dates = (name for name in ("START", "CENTRE") if "MJD" not in row.values and name in row.values)
    date = next(dates, None)
    mjd = _number(row, "MJD") if date is None else _time(row, date, exptime if date == "CENTRE" else 0.0)
    exposure = Exposure(
        expnum=expnum,
        band=_band(row),
        night=_night(row, mjd),
        mjd=mjd,
        exptime_s=exptime,
        ra_deg=_number(row, "RA") % 360.0,
        dec_deg=_number(row, "DEC"),
        airmass=math.nan,
        obstype=row.values.get("OBSTYPE", "object"),
        object_name=row.values.get("OBJECT", ""),
        propid=row.values.get("PROPID", ""),
    )
    return ListedExposure(exposure, _t_eff(row))


def _completed(row: ListRow, expnum: int, known: Mapping[int, Exposure]) -> ListedExposure | str:
    """Return an exposure from its raw file, with what the line says of it; why it is left if there is none."""
    if NARROW.fullmatch(row.values.get("BAND", "")):
        return "narrow filters are not processed"
    if expnum in known:
        return ListedExposure(known[expnum], _t_eff(row))
    return "no raw file is known, and the list does not say enough"


def _require_same(row: ListRow, e: Exposure, first_mjd: int | None) -> None:
    """Raise if a line contradicts the header of the raw file.

    Raises
    ------
    ValueError
        Naming the column and both values.
    """
    if "BAND" in row.values and _band(row) != e.band:
        raise ValueError(f"column {row.name('BAND')}: {row.values['BAND']}, but the raw file states {e.band}")
    if "RA" in row.values and "DEC" in row.values:
        apart = _distance_deg(_number(row, "RA"), _number(row, "DEC"), e)
        if apart > SAME_EXPOSURE_DEG:
            raise ValueError(f"column {row.name('RA')}: {apart:.2f} degrees from the pointing of the raw file")
    times = {"MJD": (_number(row, "MJD"), 0.5)} if "MJD" in row.values else {}
    if first_mjd is not None and "UT" in row.values:
        day = angle_deg(row.values["UT"]) / 24  # hours and minutes
        times["UT"] = (first_mjd + day - (day >= 0.5), 2.0 / 1440.0)
    for column, (mjd, allowed_days) in times.items():
        if abs(mjd - e.mjd) > allowed_days:
            problem = f"{row.values[column]} is not the time of the raw file, MJD {e.mjd:.4f}"
            raise ValueError(f"column {column}: {problem}")
    if "NITE" in row.values and _night(row, e.mjd) != e.night:
        raise ValueError(f"column {row.name('NITE')}: {row.values['NITE']}, but the raw file is of the night {e.night}")


def _planned(found: ListRows, path: Path, known: Mapping[int, Exposure]) -> GivenList:
    """Return the exposures that were taken of planned pointings."""
    missing = [name for name in ("RA", "DEC", "BAND") if name not in found.columns]
    if missing or not known:
        lacking = ", ".join(("EXPNUM", *missing))
        raise InputError(
            "exposure list lacks columns", value=f"{lacking} in {path}", limit=", ".join(REQUIRED), remedy=ADD_RAW
        )
    listed: dict[int, ListedExposure] = {}
    without = 0
    sky = [e for e in known.values() if e.obstype.lower() == "object"]
    rows = [row for row in found.rows if row.values.get("OBSTYPE", "object").lower() == "object"]
    for row in rows:
        try:
            ra, dec, band = _number(row, "RA"), _number(row, "DEC"), _band(row)
        except (TypeError, ValueError, GWWorkflowError) as error:
            raise InputError("exposure list line not understood", value=f"{path}, {row.place}: {error}") from error
        same = [e for e in sky if e.band == band and _distance_deg(ra, dec, e) <= SAME_PLACE_DEG]
        listed |= {e.expnum: ListedExposure(e) for e in same}
        without += not same
    if not listed:
        raise InputError("no planned pointing has a raw file", value=path, remedy=ADD_RAW)
    notes = (f"{without} of {len(rows)} planned pointings have no raw file",) if without else ()
    return GivenList(tuple(listed.values()), notes)


def _distance_deg(ra: float, dec: float, exposure: Exposure) -> float:
    from imaging.wcs.sphere import separation_deg  # imports NumPy

    return float(separation_deg(ra, dec, exposure.ra_deg, exposure.dec_deg))


def _expnum(row: ListRow) -> int:
    text = row.values.get("EXPNUM")
    if text is None:
        match = re.search(r"DECam_(\d+)\.fits", row.values.get("FILE", ""))
        if match is None:
            raise ValueError("column EXPNUM: no value")
        text = match[1]
    match = re.fullmatch(r"(\d+)(?:\.0*)?", text)
    if match is None or int(match[1]) == 0 or int(match[1]) >= 1 << 62:
        raise ValueError(f"column {row.name('EXPNUM')}: {text} is no exposure number")
    return int(match[1])


def _number(row: ListRow, column: str) -> float:
    """Return a number that must be known and possible.

    Raises
    ------
    ValueError
        Naming the column.
    """
    text = row.values.get(column)
    if text is None:
        raise ValueError(f"column {row.name(column)}: no value")
    try:
        value = angle_deg(text, hours=column == "RA") if column in ("RA", "DEC") else float(text)
    except (ValueError, InputError):
        raise ValueError(_no_number(row, column)) from None
    low, high = POSSIBLE[column]
    if not low <= value <= high:
        hint = "; a Julian date, not an MJD" if column == "MJD" and 2.4e6 < value < 2.6e6 else ""
        raise ValueError(f"column {row.name(column)}: {value:g} is not between {low:g} and {high:g}{hint}")
    return value


def _no_number(row: ListRow, column: str) -> str:
    """Return what is wrong with a text that is no number."""
    text = row.values[column]
    hint = "; write it with a decimal point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
    return f"column {row.name(column)}: {text} is no number{hint}"


def _time(row: ListRow, column: str, exptime_s: float) -> float:
    """Return the start of an exposure, MJD, from a date: that of its middle if an exposure time is given."""
    text = row.values[column]
    try:
        date = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=None)
    except ValueError:
        raise ValueError(f"column {row.name(column)}: {text} is no time") from None
    mjd = (date - MJD_EPOCH).total_seconds() / 86400.0 - exptime_s / 2 / 86400.0
    if not FIRST_MJD < mjd < LAST_MJD:
        raise ValueError(f"column {row.name(column)}: {text} is outside the camera's lifetime")
    return mjd


def _night(row: ListRow, mjd: float) -> int:
    text = row.values.get("NITE")
    if text is None:
        return night_of(mjd)
    digits = re.sub(r"\.0*$", "", text).replace("-", "").replace("/", "")
    try:
        night = int(digits)
        check_night(night)
    except (ValueError, InputError):
        raise ValueError(f"column {row.name('NITE')}: {text} is no night, YYYYMMDD") from None
    return night


def _band(row: ListRow) -> str:
    try:
        return band_in(row.values.get("BAND", ""))
    except InputError as error:
        raise ValueError(f"column {row.name('BAND')}: {error.sentence()}") from None


def _t_eff(row: ListRow) -> float:
    """Return the effective exposure-time factor; NaN where the list says nothing or a number below zero."""
    text = row.values.get("TEFF", "nan")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(_no_number(row, "TEFF")) from None
    if math.isnan(value) or value < 0.0:
        return math.nan
    if value > MAX_T_EFF:
        raise ValueError(f"column {row.name('TEFF')}: {value:g} is not between 0 and {MAX_T_EFF:g}")
    return value


def write_exposure_list(path: Path, listed: Iterable[ListedExposure]) -> None:
    """Write an exposure list; values that hold a comma or a quote are quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in listed:
        e = item.exposure
        t_eff = "" if math.isnan(item.t_eff) else f"{item.t_eff:.3f}"
        place = (f"{e.mjd:.8f}", f"{e.ra_deg:.6f}", f"{e.dec_deg:.6f}")
        writer.writerow(
            (e.expnum, e.night, *place, e.band, f"{e.exptime_s:g}", e.propid, e.obstype, t_eff, e.object_name)
        )
    write_text(Path(path), text.getvalue())

"""Read and write exposure lists: search exposures of a night and possible template exposures.

Comma-separated, with the columns of the original pipeline: EXPNUM, NITE, MJD, RA, DEC, BAND, EXPTIME, PROPID, OBSTYPE,
TEFF, OBJECT. The first seven are required; RA and DEC are degrees.
"""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imaging.bands import band_named
from imaging.errors import InputError
from imaging.exposure import LAST_MJD, Exposure
from imaging.io.atomic import write_text

COLUMNS = ("EXPNUM", "NITE", "MJD", "RA", "DEC", "BAND", "EXPTIME", "PROPID", "OBSTYPE", "TEFF", "OBJECT")
REQUIRED = COLUMNS[:7]

POSSIBLE = {"MJD": (0.0, LAST_MJD), "EXPTIME": (0.0, 1e5), "RA": (0.0, 360.0), "DEC": (-90.0, 90.0)}
"""Ranges of the numbers of a line."""

MAX_T_EFF = 100.0
"""Largest effective exposure-time factor; the best nights have 2."""


@dataclass(frozen=True, slots=True)
class ListedExposure:
    """One line of an exposure list.

    Attributes
    ----------
    exposure
        The exposure.
    t_eff
        Effective exposure-time factor; NaN if unknown.
    """

    exposure: Exposure
    t_eff: float = math.nan


def read_exposure_list(path: Path) -> tuple[ListedExposure, ...]:
    """Read an exposure list.

    Raises
    ------
    InputError
        If the file is missing, lacks a column, has an invalid line, or lists an exposure twice.
    """
    path = Path(path)
    from imaging.io.checked import reading  # imports NumPy, astropy and pyarrow

    with reading(path, "exposure list missing or unreadable", "correct the list, or write it again"):
        return _listed(path.read_text(encoding="utf-8"), path)


def _listed(text: str, path: Path) -> tuple[ListedExposure, ...]:
    lines = [(n, line) for n, line in enumerate(io.StringIO(text), 1) if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(line for _, line in lines)
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            "exposure list lacks columns", value=f"{', '.join(missing)} in {path}", limit=", ".join(REQUIRED)
        )
    listed: dict[int, ListedExposure] = {}
    for row in reader:
        number = lines[reader.line_num - 1][0]
        try:
            item = _read_row(row)
        except (TypeError, ValueError) as error:
            raise InputError("exposure list line not understood", value=f"{path}, line {number}: {error}") from error
        if item.exposure.expnum in listed:
            raise InputError("exposure listed twice", value=f"{item.exposure.expnum} in {path}, line {number}")
        listed[item.exposure.expnum] = item
    return tuple(listed.values())


def _read_row(row: dict[str, str]) -> ListedExposure:
    absent = [name for name in REQUIRED if row[name] is None]
    if absent:
        raise ValueError(f"the line ends before {absent[0]}")
    exposure = Exposure(
        expnum=int(row["EXPNUM"]),
        band=band_named(row["BAND"].strip()).name,
        night=int(row["NITE"]),
        mjd=float(row["MJD"]),
        exptime_s=float(row["EXPTIME"]),
        ra_deg=float(row["RA"]) % 360.0,
        dec_deg=float(row["DEC"]),
        airmass=math.nan,
        obstype=(row.get("OBSTYPE") or "object").strip(),
        object_name=(row.get("OBJECT") or "").strip(),
        propid=(row.get("PROPID") or "").strip(),
    )
    numbers = {"MJD": exposure.mjd, "EXPTIME": exposure.exptime_s, "RA": exposure.ra_deg, "DEC": exposure.dec_deg}
    for name, (low, high) in POSSIBLE.items():
        if not low <= numbers[name] <= high:
            raise ValueError(f"{name} = {numbers[name]:g} is not between {low:g} and {high:g}")
    t_eff = float(row.get("TEFF") or "nan")
    if not (math.isnan(t_eff) or 0.0 <= t_eff <= MAX_T_EFF):
        raise ValueError(f"TEFF = {t_eff:g} is not between 0 and {MAX_T_EFF:g}")
    return ListedExposure(exposure, t_eff)


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

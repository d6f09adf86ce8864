"""Read and write exposure lists: search exposures of a night and possible template exposures.

Comma-separated, with the columns of the original pipeline: EXPNUM, NITE, MJD, RA, DEC, BAND, EXPTIME, PROPID, OBSTYPE,
TEFF, OBJECT. The first seven are required; RA and DEC are degrees.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imaging.bands import band_named
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.atomic import write_text

COLUMNS = ("EXPNUM", "NITE", "MJD", "RA", "DEC", "BAND", "EXPTIME", "PROPID", "OBSTYPE", "TEFF", "OBJECT")
REQUIRED = COLUMNS[:7]


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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("exposure list missing or unreadable", value=path) from error
    reader = csv.DictReader(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            "exposure list lacks columns", value=f"{', '.join(missing)} in {path}", limit=", ".join(REQUIRED)
        )
    listed: dict[int, ListedExposure] = {}
    for number, row in enumerate(reader, start=2):
        try:
            item = _read_row(row)
        except (TypeError, ValueError) as error:
            raise InputError("exposure list line not understood", value=f"{path}, line {number}: {error}") from error
        if item.exposure.expnum in listed:
            raise InputError("exposure listed twice", value=f"{item.exposure.expnum} in {path}, line {number}")
        listed[item.exposure.expnum] = item
    return tuple(listed.values())


def _read_row(row: dict[str, str]) -> ListedExposure:
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
    return ListedExposure(exposure, float(row.get("TEFF") or "nan"))


def write_exposure_list(path: Path, listed: Iterable[ListedExposure]) -> None:
    """Write an exposure list."""
    lines = [",".join(COLUMNS)]
    for item in listed:
        e = item.exposure
        name = e.object_name.replace(",", " ")
        t_eff = "" if math.isnan(item.t_eff) else f"{item.t_eff:.3f}"
        lines.append(
            f"{e.expnum},{e.night},{e.mjd:.8f},{e.ra_deg:.6f},{e.dec_deg:.6f},{e.band},{e.exptime_s:g},"
            f"{e.propid},{e.obstype},{t_eff},{name}"
        )
    write_text(Path(path), "\n".join(lines) + "\n")

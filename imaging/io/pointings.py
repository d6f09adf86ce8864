"""Read planned pointings: RA, Dec and band.

Comma-separated text with these columns, or JSON: a list of objects, as for the observatory's queue.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from imaging.bands import band_named
from imaging.errors import InputError
from imaging.exposure import angle_deg
from imaging.io.checked import reading
from imaging.settings import Settings

NAMES = {"ra_deg": ("RA", "RA_DEG"), "dec_deg": ("DEC", "DEC_DEG"), "band": ("BAND", "FILTER")}
"""Accepted column names, upper case."""


class Pointing(Settings):
    """One planned exposure."""

    ra_deg: float = Field(ge=0.0, lt=360.0)
    """Right ascension of the centre, degrees."""
    dec_deg: float = Field(ge=-90.0, le=90.0)
    """Declination of the centre, degrees."""
    band: str
    """Band: u, g, r, i, z, Y or VR."""

    @field_validator("band")
    @classmethod
    def _is_a_band(cls, name: str) -> str:
        return band_named(name).name


def read_pointings(path: Path) -> tuple[Pointing, ...]:
    """Read planned pointings; duplicates count once.

    Parameters
    ----------
    path
        A file whose name ends in .json, or comma-separated text. RA and Dec are degrees, or sexagesimal with colons
        (hours for RA); the band may be called FILTER.

    Raises
    ------
    InputError
        If the file is missing, contains no pointing, or has an invalid one.
    """
    path = Path(path)
    found: dict[Pointing, None] = {}
    with reading(path, "list of pointings missing or unreadable", "give RA, Dec and band of each pointing"):
        for number, row in enumerate(_rows(path.read_text(encoding="utf-8"), path), start=1):
            found[_pointing(row, f"{path}, pointing {number}")] = None
    if not found:
        raise InputError("list of pointings is empty", value=path, remedy="give RA, Dec and band of each")
    return tuple(found)


def _rows(text: str, path: Path) -> list[Mapping[str, Any]]:
    if path.suffix.lower() != ".json":
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        return list(csv.DictReader(lines, skipinitialspace=True))
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError("list of pointings is not JSON", value=f"{path}: {error}") from error
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise InputError("list of pointings not understood", value=path, limit="a JSON list of objects")
    return document


def _pointing(row: Mapping[str, Any], where: str) -> Pointing:
    upper = {str(key).strip().upper(): value for key, value in row.items() if key is not None}
    values: dict[str, Any] = {}
    for name, words in NAMES.items():
        present = [word for word in words if upper.get(word) not in (None, "")]
        if not present:
            raise InputError("pointing lacks a column", value=f"{where}: {words[0]}", limit="RA, DEC, BAND")
        values[name] = upper[present[0]]
    try:
        ra, dec = _angle(values["ra_deg"], hours=True), _angle(values["dec_deg"], hours=False)
        return Pointing(ra_deg=ra % 360.0, dec_deg=dec, band=str(values["band"]).strip())
    except (ValueError, TypeError) as error:
        raise InputError("pointing not understood", value=f"{where}: {dict(row)}") from error


def _angle(value: str | float, *, hours: bool) -> float:
    return angle_deg(value, hours=hours and ":" in str(value))

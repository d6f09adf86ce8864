"""Read planned pointings: RA, Dec and band, in all forms of :mod:`imaging.io.list_rows`."""

from pathlib import Path

from pydantic import Field, field_validator

from imaging.bands import band_named
from imaging.errors import InputError
from imaging.exposure import angle_deg
from imaging.io.damage import reading
from imaging.io.list_rows import ListRow, band_in, list_rows
from imaging.settings import Settings


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
        The file. RA and Dec are degrees, or sexagesimal (hours for RA); the band may be called FILTER or
        ``fil``.

    Raises
    ------
    InputError
        If the file is missing, contains no pointing, or has an invalid one.
    """
    path = Path(path)
    found: dict[Pointing, None] = {}
    with reading(path, "list of pointings missing or unreadable", "give RA, Dec and band of each pointing"):
        for number, row in enumerate(list_rows(path.read_bytes(), path).rows, start=1):
            if row.values.get("OBSTYPE", "object").lower() == "object":
                found[_pointing(row, f"{path}, pointing {number}, {row.place}")] = None
    if not found:
        raise InputError("list of pointings is empty", value=path, remedy="give RA, Dec and band of each")
    return tuple(found)


def _pointing(row: ListRow, where: str) -> Pointing:
    for column in ("RA", "DEC", "BAND"):
        if column not in row.values:
            raise InputError("pointing lacks a column", value=f"{where}: {column}", limit="RA, DEC, BAND")
    try:
        ra, dec = (angle_deg(row.values[c], hours=c == "RA") for c in ("RA", "DEC"))
        return Pointing(ra_deg=ra % 360.0, dec_deg=dec, band=band_in(row.values["BAND"]))
    except (ValueError, TypeError) as error:
        raise InputError("pointing not understood", value=f"{where}: {dict(row.values)}") from error

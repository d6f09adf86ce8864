"""Description of an exposure from its raw header: band, night, time, pointing, airmass."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from imaging.bands import band_of_filter
from imaging.errors import InputError

MJD_EPOCH = datetime(1858, 11, 17)
FIRST_MJD, LAST_MJD = 56000.0, 100000.0
"""Range of plausible dates, MJD: from before DECam's first light in 2012 to 2132."""

LARGEST_EXPNUM, LONGEST_S = 2**31, 1e6
"""Numbers of exposures have 32 bits, those made for imported stacks are above 1e9; stacks expose less than 1e6 s."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure of the camera.

    Attributes
    ----------
    expnum
        Exposure number.
    band
        Band name.
    night
        Local date at the beginning of the night, YYYYMMDD.
    mjd
        Start of the exposure, UTC.
    exptime_s
        Exposure time.
    ra_deg, dec_deg
        Telescope pointing, ICRS to a few arcseconds; NaN if the header of a bias or flat lacks it.
    airmass
        Airmass; NaN if the header lacks it.
    obstype
        Kind of exposure: ``object``, ``zero``, ``dome flat``, ...
    object_name
        Name given by the observer.
    propid
        Observing proposal.
    """

    expnum: int
    band: str
    night: int
    mjd: float
    exptime_s: float
    ra_deg: float
    dec_deg: float
    airmass: float
    obstype: str = "object"
    object_name: str = ""
    propid: str = ""

    @property
    def mjd_mid(self) -> float:
        """Middle of the exposure, MJD UTC."""
        return self.mjd + self.exptime_s / 2 / 86400.0


def night_of(mjd: float) -> int:
    """Return the night (YYYYMMDD) of an MJD: the UTC date twelve hours earlier."""
    date = MJD_EPOCH + timedelta(days=mjd - 0.5)
    return date.year * 10000 + date.month * 100 + date.day


def date_of(mjd: float) -> str:
    """Return an MJD as date and time to the millisecond, in the form of FITS; the time scale is kept."""
    return (MJD_EPOCH + timedelta(days=mjd, microseconds=500)).isoformat(timespec="milliseconds")


def exposure_from_header(header: Mapping[str, Any], source: str) -> Exposure:
    """Read an exposure's description from a raw primary header.

    Parameters
    ----------
    header
        Keywords and values. The string ``'NaN'``, which the observatory writes for some numbers, counts as unknown.
    source
        File name for error messages.

    Raises
    ------
    InputError
        If a required keyword is missing or invalid.
    """

    def need(key: str) -> Any:  # noqa: ANN401
        value = header.get(key)
        if value is None or value == "":
            raise InputError(
                "raw header lacks a keyword",
                value=f"{key} in {source}",
                remedy="repair the header or fetch the file again",
            )
        return value

    def number(key: str) -> float:
        try:
            return float(str(need(key)))  # a logical value is no number
        except (TypeError, ValueError) as error:
            raise InputError(
                "raw header keyword is not a number", value=f"{key} = {header[key]!r} in {source}"
            ) from error

    def optional(key: str) -> float:
        try:
            return float(header.get(key, math.nan))
        except (TypeError, ValueError):
            return math.nan

    mjd = number("MJD-OBS")
    exptime_s, obstype = number("EXPTIME"), str(need("OBSTYPE")).strip()
    _require_possible_times(mjd, exptime_s, obstype, source)
    expnum = number("EXPNUM")
    if not (0 < expnum < LARGEST_EXPNUM and expnum == int(expnum)):
        value, limit = f"EXPNUM = {header['EXPNUM']!r} in {source}", f"an integer from 1 to {LARGEST_EXPNUM - 1}"
        raise InputError("raw header states an impossible exposure number", value=value, limit=limit)
    return Exposure(
        expnum=int(expnum),
        band=band_of_filter(str(need("FILTER"))),
        night=night_of(mjd),
        mjd=mjd,
        exptime_s=exptime_s,
        ra_deg=_pointing(header, ("TELRA", "RA"), obstype, source, hours=True),
        dec_deg=_pointing(header, ("TELDEC", "DEC"), obstype, source, hours=False),
        airmass=optional("AIRMASS"),
        obstype=obstype,
        object_name=str(header.get("OBJECT", "")).strip(),
        propid=str(header.get("PROPID", "")).strip(),
    )


def _pointing(header: Mapping[str, Any], keys: tuple[str, ...], obstype: str, source: str, *, hours: bool) -> float:
    """Return the first of several angles that the header states, in degrees; only a sky exposure needs one."""
    limit = 360.0 if hours else 90.0
    for key in keys:
        try:
            angle = angle_deg(header.get(key, math.nan), hours=hours)
        except (InputError, TypeError, ValueError):
            continue
        if abs(angle) <= limit:
            return angle
    if obstype.lower() != "object":
        return math.nan
    raise InputError(
        "raw header lacks the pointing",
        value=f"{', '.join(f'{key} = {header.get(key)!r}' for key in keys)} in {source}",
        remedy="repair the header or fetch the file again",
    )


def _require_possible_times(mjd: float, exptime_s: float, obstype: str, source: str) -> None:
    """Raise if the date is outside the camera's lifetime, or a sky exposure has no exposure time."""
    remedy = "repair the header or fetch the file again"
    if not FIRST_MJD < mjd < LAST_MJD:
        raise InputError(
            "raw header states an impossible time",
            value=f"MJD-OBS = {mjd:g} in {source}",
            limit=f"between {FIRST_MJD:g} and {LAST_MJD:g}",
            remedy=remedy,
        )
    if not 0.0 <= exptime_s < LONGEST_S or (obstype.lower() == "object" and exptime_s == 0.0):
        raise InputError(
            "raw header states an impossible exposure time",
            value=f"EXPTIME = {exptime_s:g} s for OBSTYPE {obstype} in {source}",
            limit=f"more than 0 and less than {LONGEST_S:g} s",
            remedy=remedy,
        )


def angle_deg(value: str | float, *, hours: bool = False) -> float:
    """Read an angle written as a number of degrees or as sexagesimal text (``'-21:12:15.9'``, ``'13h09m48s'``).

    Parameters
    ----------
    value
        Number in degrees, or text of two or three parts separated by colons, blanks or the letters of their units.
    hours
        Whether the first part of the text is hours rather than degrees, unless the text says degrees (``'197d27m0s'``).

    Raises
    ------
    InputError
        If it is neither, or has 60 minutes or more than 60 seconds.
    """
    if not isinstance(value, str):
        return float(value)
    with suppress(ValueError):
        return float(value)
    match = _SEXAGESIMAL.fullmatch(value.strip())
    numbers = [float(match[part] or 0.0) for part in (2, 4, 5)] if match else [math.inf]
    if match is None or numbers[1] >= 60.0 or numbers[2] > 60.0:  # some headers round to 60.0 seconds
        raise InputError("angle not understood", value=repr(value))
    first = 15.0 if match[3].lower() == "h" or (hours and match[3].lower() != "d") else 1.0
    angle = sum(n / 60**i for i, n in enumerate(numbers)) * first
    return -angle if match[1] == "-" else angle


_SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d+)\s*([:\shHdD°])\s*(\d+(?:\.\d*)?)(?:\s*[:\smM']\s*(\d+(?:\.\d*)?)?\s*[sS\"]?)?"
)
"""Sign, hours or degrees with what follows them, minutes, seconds."""

"""Numbers in headers of other programs: stated, absent, or not understood."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from imaging.errors import InputError

ABSENT = frozenset({"", "none", "null", "unknown", "undefined", "n/a", "na", "nan", "inf", "-"})
"""Texts that state no value."""

SOURCE, FILE_GAIN, GIVEN_ZEROPOINT = "IMPORTED", "FILEGAIN", "ZPGIVEN"
"""Keywords of imported images: pipeline and file; electrons per unit of the file; zero point of one electron, given."""

FIRST_MJD_CARD = "MJD-BEG"
"""Keyword of imported stacks: time of their first exposure (FITS standard 4.0, section 9.5)."""

LONG_RANGE_CARD = "NOISESUM"
"""Keyword of imported stacks: variance of the sum of many pixels over that of uncorrelated ones."""

DECIDING = re.compile(
    r"B(?:UNIT|SCALE|ZERO|LANK|SOFTEN|OFFSET)|E?GAIN|GAIN[AB]|ARAWGAIN|FLUXMAG0|PHOT(?:FLAM|PLAM|ZP)|SATURATE|PIXAR_SR"
    r"|MAG_?ZERO|MAGZPT0?|MAGZP|ZERO(?:PNT|PT)|ZP|C(?:TYPE|RVAL|RPIX|UNIT|DELT|ROTA)\d|(?:CD|PC|PV)\d+_\d+"
    r"|[AB]_(?:ORDER|\d_\d)|RADESYS|EQUINOX|L(?:ON|AT)POLE"
)
"""Keywords on which pixels, their unit and their coordinates depend."""

FARTHEST_PIXEL = 1e7
"""Largest distance of the reference pixel of coordinates, pixels: an all-sky image of 0.1 arcsec."""

PIXEL_SCALES_ARCSEC = (1e-3, 100.0)
"""Smallest and largest side of a pixel: coordinates that nobody has solved have one degree per pixel."""

LARGEST = 1e15
"""Number above which a gain, an exposure time or a level is nonsense."""


def positive(header: Mapping[str, Any], key: str) -> float | None:
    """Return a positive number of a header, None if the card is absent or states none, or an impossible one.

    Parameters
    ----------
    header
        Keywords.
    key
        Keyword.
    """
    try:
        value = float(header[key])
    except (KeyError, TypeError, ValueError):
        return None
    return value if 0 < value < LARGEST else None


def stated(header: Mapping[str, Any], keys: Iterable[str], limits: tuple[float, float], remedy: str) -> float | None:
    """Return the first number that a header states under one of several keywords.

    Parameters
    ----------
    header
        Keywords.
    keys
        Keywords, the preferred first. Cards without a value, or with a word such as ``unknown``, are passed over.
    limits
        Smallest and largest value that can be meant.
    remedy
        What the user can do if the value is not understood.

    Raises
    ------
    InputError
        If the card holds a number outside the limits, or a text that is neither a number nor a word for its absence.
    """
    for key in keys:
        value = header.get(key)
        text = "" if value is None or isinstance(value, bool) else str(value).strip()
        if text.lower() in ABSENT:
            continue
        try:
            number = float(text)
        except ValueError:
            number = math.nan
            if not re.search(r"\d", text):
                continue
        if not limits[0] < number < limits[1]:
            limit = f"a number from {limits[0]:g} to {limits[1]:g}"
            raise InputError(f"{key} of the header is not understood", value=repr(value), limit=limit, remedy=remedy)
        return number
    return None


def require_single(ambiguous: Iterable[str], name: object) -> None:
    """Raise if a header gives a keyword on which pixels or coordinates depend several times, with several values.

    Parameters
    ----------
    ambiguous
        Keywords that the header has with several values.
    name
        The file, for the message.

    Raises
    ------
    InputError
        With the keywords.
    """
    several = sorted(key for key in ambiguous if DECIDING.fullmatch(key))
    if several:
        value = f"{', '.join(several)} in {name}"
        raise InputError("keywords of the header have two values", value=value, remedy="remove the wrong cards")


def require_possible_place(header: Mapping[str, Any], pixel_area_arcsec2: float, name: object) -> None:
    """Raise if the reference pixel of the coordinates is impossibly far away, or their pixels are too large or small.

    Parameters
    ----------
    header
        Keywords of the image.
    pixel_area_arcsec2
        Area of a pixel on the sky by the coordinates.
    name
        The file, for the message.

    Raises
    ------
    InputError
        With the reference pixel or the pixel scale.
    """
    remedy = "solve the image"
    if not all(abs(float(header.get(key, 0.0))) < FARTHEST_PIXEL for key in ("CRPIX1", "CRPIX2")):
        place = f"CRPIX {header.get('CRPIX1')}, {header.get('CRPIX2')} of {name}"
        raise InputError("impossible coordinates", value=place, limit=f"{FARTHEST_PIXEL:g}", remedy=remedy)
    scale, (smallest, largest) = math.sqrt(pixel_area_arcsec2), PIXEL_SCALES_ARCSEC
    if not smallest < scale < largest:
        value, limit = f"{scale:.3g} arcsec per pixel in {name}", f"{smallest:g} to {largest:g}"
        raise InputError("impossible coordinates", value=value, limit=limit, remedy=remedy)

"""Find what a calibration file holds of one CCD, by what its headers say: CCDNUM, DETPOS, EXTNAME, BAND, FILTER.

Surveys write one file per CCD, the Community Pipeline one extension per CCD, the observatory one table per CCD. The
place of an extension in its file counts only where the observatory's linearity table says nothing else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.bands import band_of_filter
from imaging.detector.ccds import CCDS, SCIENCE_CCDS, Ccd, format_ccd_list
from imaging.detector.sections import POSTSCAN, RAW_NX, parse_section, raw_sections
from imaging.errors import InputError
from imaging.io.checked import HduLayout, fits_file, fits_layouts
from imaging.io.damage import DamagedError

POSITIONS = {ccd.detpos: number for number, ccd in CCDS.items()}
"""Position in the camera to CCD number."""

NUMBERED = re.compile(r"CCD_?0*(\d{1,2})", re.IGNORECASE)
"""Name of an extension with the CCD's number."""

AUXILIARY = {"MSK", "MASK", "WGT", "WEIGHT", "VAR", "VARIANCE"}
"""Names of planes that belong to another image."""

NOT_FILTERS = {"", "none", "null", "block", "solid plate 0.0 0.0"}
"""Texts of BAND and FILTER without a filter, in lower case."""


@dataclass(frozen=True, slots=True)
class Part:
    """One extension of a calibration file.

    Attributes
    ----------
    index
        Number of the HDU, 0 for the primary one.
    name
        EXTNAME.
    ccd
        The CCD that its header states; None if it states none.
    band
        The band that its header or the primary one states; empty if none.
    is_table
        Whether it is a table.
    cards
        Texts of its keywords.
    """

    index: int
    name: str
    ccd: int | None
    band: str
    is_table: bool
    cards: HduLayout


def file_parts(path: Path) -> list[Part]:
    """Return the images and tables with data of a FITS file.

    What the primary header states of the CCD holds for the only extension with data.

    Raises
    ------
    DamagedError
        If the file, or a header, contradicts itself.
    """
    layouts = fits_layouts(path)
    primary = layouts[0]
    parts = [_part(index, hdu, primary) for index, hdu in enumerate(layouts) if _has_data(hdu)]
    if len([part for part in parts if not _is_auxiliary(part)]) == 1:
        stated = stated_ccd(primary, 0)
        for n, part in enumerate(parts):
            if stated is not None and part.ccd not in (None, stated):
                raise DamagedError(f"the primary header states CCD {stated}, extension {part.index} CCD {part.ccd}")
            parts[n] = Part(part.index, part.name, part.ccd or stated, part.band, part.is_table, part.cards)
    return parts


def _has_data(hdu: HduLayout) -> bool:
    return hdu.data_end > hdu.data_start and hdu.integer("NAXIS") > 0


def _part(index: int, hdu: HduLayout, primary: HduLayout) -> Part:
    is_table = hdu.text("XTENSION") in ("BINTABLE", "TABLE") and hdu.cards.get("ZIMAGE") != "T"
    band = stated_band(hdu, index) or stated_band(primary, 0)
    return Part(index, hdu.text("EXTNAME"), stated_ccd(hdu, index), band, is_table, hdu)


def _is_auxiliary(part: Part) -> bool:
    return bool({part.name.upper(), part.cards.text("DES_EXT").upper()} & AUXILIARY)


def stated_ccd(hdu: HduLayout, index: int) -> int | None:
    """Return the CCD that a header states by CCDNUM, DETPOS or EXTNAME; None if it states none.

    Raises
    ------
    DamagedError
        If they differ, or name no CCD of the camera.
    """
    found: dict[str, int | None] = {}
    if "CCDNUM" in hdu.cards:
        found["CCDNUM"] = hdu.integer("CCDNUM")
    if hdu.text("DETPOS"):
        found["DETPOS"] = POSITIONS.get(hdu.text("DETPOS").upper())
    name = hdu.text("EXTNAME").upper()
    numbered = NUMBERED.fullmatch(name)
    if numbered or name in POSITIONS:
        found["EXTNAME"] = int(numbered[1]) if numbered else POSITIONS[name]
    if not set(found.values()) <= set(CCDS):
        texts = ", ".join(f"{key} = {hdu.text(key)}" for key in found)
        raise DamagedError(f"extension {index} states no CCD of the camera: {texts}")
    if len(set(found.values())) > 1:
        texts = ", ".join(f"{key} = {hdu.text(key)}" for key in found)
        raise DamagedError(f"extension {index} contradicts itself about its CCD: {texts}")
    return next(iter(found.values()), None)


def stated_band(hdu: HduLayout, index: int) -> str:
    """Return the band that a header states by BAND or FILTER; empty if it states none.

    Raises
    ------
    DamagedError
        If they differ.
    """
    texts = [hdu.text(key) for key in ("BAND", "FILTER")]
    bands = [band_of_filter(text) for text in texts if text.lower() not in NOT_FILTERS]
    if len(set(bands)) > 1:
        raise DamagedError(f"extension {index} contradicts itself: BAND = {texts[0]}, FILTER = {texts[1]}")
    return bands[0] if bands else ""


def require_band(part: Part, band: str | None, *, stated: bool) -> None:
    """Raise if an extension is of another band than the one asked for, or must state its band and does not.

    Raises
    ------
    InputError
        With both bands.
    """
    if band is None or part.band == band or not (part.band or stated):
        return
    if not part.band:
        remedy = "write its band into BAND of its header, or copy the file again"
        raise InputError("the calibration file does not say its band", limit=f"BAND or FILTER: {band}", remedy=remedy)
    remedy = "correct the manifest, or copy the file of this band"
    raise InputError("calibration of another band", value=f"band {part.band}", limit=f"band {band}", remedy=remedy)


def part_of_ccd(parts: Sequence[Part], ccd: int | None) -> Part:
    """Return the extension of a CCD.

    Parameters
    ----------
    parts
        The extensions that may be meant.
    ccd
        CCD number; None for a file with a single extension, whatever it states.

    Raises
    ------
    InputError
        If the file does not hold the CCD, holds it twice, or does not say of which CCD it is.
    """
    stated = sorted({part.ccd for part in parts if part.ccd is not None})
    held = f"CCDs {format_ccd_list(stated)}" if len(stated) > 1 else f"CCD {stated[0]}" if stated else "no CCD stated"
    remedy = "correct the manifest, or copy the file of this CCD"
    if ccd is None:
        if len(parts) == 1:
            return parts[0]
        problem = "the calibration file holds several extensions" if parts else "the calibration file holds no data"
        raise InputError(problem, value=f"{len(parts)} extensions, {held}", limit="one", remedy=remedy)
    own = [part for part in parts if part.ccd == ccd]
    if len(own) == 1:
        return own[0]
    if own:
        places = ", ".join(str(part.index) for part in own)
        problem = "the calibration file holds two extensions of one CCD"
        raise InputError(problem, ccd=ccd, value=f"extensions {places}", limit="one", remedy=remedy)
    if not stated:
        remedy = "write CCDNUM and DETPOS into its headers, or copy the file again"
        raise InputError("the calibration file does not say of which CCD it is", ccd=ccd, remedy=remedy)
    raise InputError("calibration of another CCD", ccd=ccd, value=held, limit=f"CCD {ccd}", remedy=remedy)


def read_master(
    path: Path, ccd: int | None, band: str | None = None, *, bits: bool = False, says_band: bool = True
) -> tuple[NDArray[Any], HduLayout]:
    """Read the image of a CCD from a calibration file, trimmed.

    Parameters
    ----------
    path
        The file: one image, or one extension per CCD.
    ccd
        CCD number; None for a file with a single image, whatever it states.
    band
        The band it must be of; None for any.
    bits
        Whether a mask is asked for.
    says_band
        Whether the file must state its band.

    Returns
    -------
    image
        Native byte order; (ny, nx), or (n, ny, nx) for sky templates.
    cards
        Keywords of its extension.

    Raises
    ------
    InputError
        If the file is of another CCD or band, or does not say so.
    DamagedError
        If it contradicts itself.
    """
    images = [part for part in file_parts(path) if not part.is_table]
    main = [part for part in images if not _is_auxiliary(part)]
    part = part_of_ccd(main or (images if bits else []), ccd)
    require_band(part, band, stated=says_band)
    with fits.open(fits_file(path, names={part.name}), memmap=False) as hdus:
        data = hdus[part.index].data
    image = np.ascontiguousarray(data.astype(data.dtype.newbyteorder("="), copy=False))
    known = ccd if ccd is not None else part.ccd
    return (image if known is None else trimmed(image, CCDS[known], part.cards)), part.cards


def trimmed(image: NDArray[Any], ccd: Ccd, cards: HduLayout) -> NDArray[Any]:
    """Cut prescan, overscan and post-scan off an image that has them; return others unchanged.

    Raises
    ------
    DamagedError
        If its header states another section of data than that of the CCD.
    """
    if image.shape != (ccd.ny + POSTSCAN, RAW_NX):
        return image
    data = raw_sections(ccd)["DATASEC"]
    for key in ("DATASEC", "TRIMSEC"):
        if cards.text(key) and parse_section(cards.text(key)).slices != data.slices:
            raise DamagedError(f"{key} = {cards.text(key)} of an untrimmed image; allowed: {data}")
    return np.ascontiguousarray(image[data.slices])


def linearity_part(parts: Sequence[Part], ccd: int) -> Part:
    """Return the table of a CCD's response curves.

    The observatory's table of 2014 has one extension per science CCD and may state nothing else: then its place is the
    CCD's number.

    Raises
    ------
    InputError
        As :func:`part_of_ccd`.
    """
    tables = [part for part in parts if part.is_table]
    is_silent = all(part.ccd is None and not part.name for part in tables)
    if is_silent and [part.index for part in tables] == list(SCIENCE_CCDS):
        return tables[ccd - 1]
    return part_of_ccd(tables, ccd)

"""Read raw DECam exposures: a multi-extension FITS file with one tile-compressed extension per CCD.

Extensions are identified by their CCDNUM, not by their position in the file, and files with only some of the CCDs are
valid.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fitsio
import numpy as np
import xxhash
from astropy.io import fits

from imaging.detector.ccds import CCDS
from imaging.errors import CcdError, InputError
from imaging.exposure import Exposure, exposure_from_header
from imaging.image import RawCcd
from imaging.io.access import require_access
from imaging.io.checked import BITS, check_sums, hdu_layout, mapped
from imaging.io.damage import DAMAGE, DamagedError, reading, reason_of

BLOCK, MAX_AXES = 2880, 9


@dataclass(frozen=True, slots=True)
class RawExtension:
    """Location and state of one CCD in a raw file.

    Attributes
    ----------
    ccdnum
        CCD number.
    hdu
        Index of the extension.
    content_hash
        Hash of the extension's bytes, header and data; empty if it is damaged.
    problem
        Why the extension cannot be read, or empty.
    """

    ccdnum: int
    hdu: int
    content_hash: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RawIndex:
    """A raw file's contents: the exposure and its CCDs.

    Attributes
    ----------
    exposure
        Exposure from the primary header.
    header_hash
        Hash of the primary header's bytes.
    extensions
        CCDs in the file, by number.
    lost
        Whether the file is damaged such that further extensions, which it states to have, cannot be found.
    """

    exposure: Exposure
    header_hash: str
    extensions: Mapping[int, RawExtension]
    lost: bool = False


def index_raw(path: Path) -> RawIndex:
    """Scan a raw file once: find its CCDs, hash them, detect damage.

    Raises
    ------
    InputError
        If the file is missing, is not FITS, has no usable primary header or contains no CCD.
    """
    path = Path(path)
    remedy = "fetch the raw file again"
    try:
        size = path.stat().st_size
        stream = path.open("rb")
    except OSError as error:
        require_access(path, "the raw file")
        raise InputError("raw file missing or unreadable", value=path, remedy=remedy) from error
    with stream:
        if stream.read(9) != b"SIMPLE  =":
            raise InputError("raw file is not FITS", value=path, remedy=remedy)
        stream.seek(0)
        primary, _, header_hash = _read_hdu(stream, size, path)
        exposure = exposure_from_header(readable_cards(primary), str(path))
        found: list[RawExtension] = []
        misnamed: dict[int, int] = {}
        hdu, complete = 0, True
        while stream.tell() < size and complete:
            hdu, start = hdu + 1, stream.tell()
            try:
                header, complete, digest = _read_hdu(stream, size, path)
            except InputError:
                complete = False  # nothing after an unreadable header can be located
                break
            cards = readable_cards(header, ("CCDNUM", "DETPOS"))
            ccdnum, named = cards.get("CCDNUM"), _CCD_BY_POSITION.get(str(cards.get("DETPOS")).strip().upper())
            problem = _problem(path, start) if complete else "the file ends inside this extension"
            if isinstance(ccdnum, int) and named is not None and ccdnum != named:
                misnamed[hdu] = named
                problem = f"CCDNUM is {ccdnum}, but DETPOS {cards['DETPOS']} is the position of CCD {named}"
            if isinstance(ccdnum, int):
                found.append(RawExtension(ccdnum, hdu, "" if problem else digest, problem))
    extensions = _by_number(found, misnamed)
    if not extensions:
        raise InputError("raw file contains no CCD", expnum=exposure.expnum, value=path, remedy=remedy)
    n_stated = readable_cards(primary, ("NEXTEND",)).get("NEXTEND")
    lost = not complete and isinstance(n_stated, int) and n_stated > len(extensions)
    return RawIndex(exposure, header_hash, extensions, lost)


_CCD_BY_POSITION = {ccd.detpos: number for number, ccd in CCDS.items()}


def _by_number(found: Iterable[RawExtension], misnamed: Mapping[int, int]) -> dict[int, RawExtension]:
    """Return extensions by CCD, with a problem for each CCD of which it is not certain which extension is its own.

    Parameters
    ----------
    found
        The extensions.
    misnamed
        Number of each extension whose position is that of another CCD than its CCDNUM, to that CCD.
    """
    extensions: dict[int, RawExtension] = {}
    for extension in sorted(found, key=lambda extension: extension.hdu in misnamed):
        ccd = extension.ccdnum
        if ccd not in extensions:
            extensions[ccd] = extension
        elif extension.hdu not in misnamed:
            extensions[ccd] = RawExtension(ccd, extension.hdu, "", "two extensions have the number of this CCD")
    for ccd in misnamed.values():
        absent = RawExtension(ccd, -1, "", "the extension of its position has the number of another CCD")
        extensions.setdefault(ccd, absent)
    return dict(sorted(extensions.items(), key=lambda item: item[1].hdu % NO_HDU))


NO_HDU = 1000
"""More than the extensions of a file; an absent one comes last."""


def _problem(path: Path, start: int) -> str:
    """Return why an extension cannot be read: impossible sizes or tiles, or data that differ from their checksum."""
    with mapped(path) as content:
        try:
            hdu = hdu_layout(content, start, first=False)
            check_sums(content, hdu, headers=False)
        except DamagedError as error:
            return str(error)
    return ""


def readable_cards(header: fits.Header, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Return keywords and values of a header without the cards that are no FITS, which are then unknown.

    Parameters
    ----------
    header
        The header; a card such as ``AIRMASS = NaN`` or ``= 1,2`` has no value by the FITS standard.
    keys
        Keywords to read; None for all.
    """
    values = {}
    for key in header if keys is None else [k for k in keys if k in header]:
        try:
            values[key] = header[key]
        except fits.VerifyError:
            continue
    return values


def _read_hdu(stream: BinaryIO, size: int, path: Path) -> tuple[fits.Header, bool, str]:
    """Read one HDU: its header, whether its data are complete, and the hash of its bytes."""
    start = stream.tell()
    try:
        header = fits.Header.fromfile(stream, endcard=True, padding=True)
        length = _data_length(header)
    except (OSError, EOFError, ValueError, KeyError, fits.VerifyError) as error:
        raise InputError(
            "raw file is truncated or damaged", value=f"{path} at byte {start}", remedy="fetch the raw file again"
        ) from error
    end = stream.tell() + length
    digest = xxhash.xxh3_128()
    stream.seek(start)
    remaining = min(end, size) - start
    while remaining > 0:
        chunk = stream.read(min(remaining, 1 << 22))
        digest.update(chunk)
        remaining -= len(chunk)
    return header, end <= size, digest.hexdigest()


def _data_length(header: fits.Header) -> int:
    axes = [int(header[f"NAXIS{i + 1}"]) for i in range(min(int(header["NAXIS"]), MAX_AXES))]
    if not axes:
        return 0
    n_before, n_groups, bits = int(header.get("PCOUNT", 0)), int(header.get("GCOUNT", 1)), int(header["BITPIX"])
    if min(*axes, n_before, n_groups) < 0 or bits not in BITS:
        raise ValueError("sizes below zero")
    length = abs(bits) // 8 * n_groups * (n_before + math.prod(axes))
    return -(-length // BLOCK) * BLOCK


def read_exposure(path: Path) -> Exposure:
    """Read the exposure from a raw file's primary header.

    Raises
    ------
    InputError
        If the file cannot be read or lacks a keyword.
    """
    with reading(path, "raw file missing or unreadable", "fetch the raw file again"):
        return exposure_from_header(readable_cards(fits.getheader(path, 0)), str(path))


def read_raw_ccd(path: Path, extension: RawExtension, expnum: int) -> RawCcd:
    """Read the pixels and header of one CCD.

    Raises
    ------
    CcdError
        If the extension is damaged.
    """
    problem, cause = extension.problem, None
    if not problem:
        try:
            with fitsio.FITS(str(path)) as file:
                pixels = file[extension.hdu].read()
            with fits.open(path, disable_image_compression=True, memmap=True, lazy_load_hdus=True) as hdus:
                header = readable_cards(hdus[extension.hdu].header)
            return RawCcd(header, np.ascontiguousarray(pixels.astype(np.uint16, copy=False)))
        except DAMAGE as error:
            problem, cause = reason_of(error), error
    raise CcdError(
        f"the raw extension cannot be read: {problem}",
        reason="unreadable_extension",
        expnum=expnum,
        ccd=extension.ccdnum,
        step="read raw",
        remedy="fetch the raw file again and run the same command; only this CCD is processed anew",
    ) from cause

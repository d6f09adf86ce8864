"""Describe raw files by their primary headers: whatever they are called, without reading their pixels.

The primary header says which exposure a file holds; the sizes in the headers of the extensions say whether the file is
complete. FITS requires these sizes in the first cards of a header (FITS standard 4.0, section 4.4.1).
"""

import gzip
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from astropy.io import fits

from imaging.errors import InputError
from imaging.exposure import Exposure, exposure_from_header
from imaging.io.atomic import atomic_path
from imaging.io.checked import BITS, BLOCK, HEADER_BLOCKS, MAX_UNPACKED_BYTES
from imaging.io.damage import DamagedError, reading
from imaging.io.raw import readable_cards

CARD = 80

SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".gz")
"""Ends of the names of files that a folder is searched for; a file that is named itself may be called anything."""

KEYS = (
    *("EXPNUM", "OBSTYPE", "FILTER", "EXPTIME", "MJD-OBS", "TELRA", "TELDEC", "RA", "DEC", "AIRMASS"),
    *("OBJECT", "PROPID", "DTPROPID", "NEXTEND", "PROCTYPE", "INSTRUME"),
)
"""Keywords of the primary header that are read."""

GZIP = b"\x1f\x8b"

SIZES = 12
"""Cards at the beginning of a header that may hold the sizes of its data; FITS allows no other cards between them."""

_SIZE = re.compile(rb"(?<![A-Z0-9_-])(BITPIX|NAXIS\d?|PCOUNT|GCOUNT) *= +(-?\d+) ")
_OTHERS = ((b"BITPIX", b""), (b"PCOUNT", b"0"), (b"GCOUNT", b"1"))

MOST_AXES = 3
"""Axes of an image or table in a raw file."""

END = b"END".ljust(CARD)
"""The last card of a header."""

AT_ONCE = 8 * BLOCK
"""Bytes of an extension's header that are read at once; the observatory's have 5 to 7 blocks."""

REMEDY = "fetch the raw file again"
OTHER = "give raw exposures of the Dark Energy Camera"


@dataclass(frozen=True, slots=True)
class RawHeader:
    """What a raw file holds.

    Attributes
    ----------
    exposure
        The exposure.
    n_stated
        Extensions that the primary header states; 0 if it states none.
    n_extensions
        Complete extensions; 0 for a gzipped file, whose extensions are counted when it is unpacked.
    is_complete
        Whether the last extension ends where the file ends.
    """

    exposure: Exposure
    n_stated: int
    n_extensions: int
    is_complete: bool


def raw_candidates(
    folder: Path, depth: int = 8, refused: Callable[[Path, OSError], object] | None = None
) -> Iterator[Path]:
    """Yield the files below a folder that may be raw files by the ends of their names, in order of their names.

    Hidden files and folders are left out: programs write files under such names until they are complete. So are pipes,
    links that lead nowhere, and links to a folder above them.

    Parameters
    ----------
    folder
        The folder.
    depth
        Number of levels of folders in it that are searched.
    refused
        Called with each folder that cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        if refused is not None:
            refused(folder, error)
        return
    for entry in found:
        if entry.is_dir():
            leads_back = entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve())
            if depth and not leads_back:
                yield from raw_candidates(Path(entry.path), depth - 1, refused)
        elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
            yield Path(entry.path)


def read_raw_header(path: Path) -> RawHeader:
    """Read what a raw file holds, from its primary header and the sizes of its extensions.

    Parameters
    ----------
    path
        The file: compressed by tiles, as a whole with gzip, or not at all.

    Raises
    ------
    InputError
        If it is missing, no FITS file, no raw exposure of the camera, or lacks a keyword.
    """
    path = Path(path)
    with reading(path, "raw file missing or unreadable", REMEDY), path.open("rb", buffering=0) as stream:
        if stream.read(2) == GZIP:
            return _of_gzip(stream, path)
        size = os.fstat(stream.fileno()).st_size
        stream.seek(0)
        content = _header(stream, 0, path)
        header = _exposure_header(content, path)
        n_extensions, is_complete = _extensions(stream, len(content) + _padded(_data_bytes(content)), size)
        return RawHeader(*header, n_extensions=n_extensions, is_complete=is_complete and n_extensions > 0)


def _of_gzip(stream: IO[bytes], path: Path) -> RawHeader:
    """Read a gzipped file; a complete one ends in the length of its content, which is a multiple of 2880 bytes."""
    stream.seek(-4, os.SEEK_END)
    length = int.from_bytes(stream.read(4), "little")
    stream.seek(0)
    with gzip.open(stream) as unpacked:
        header = _exposure_header(_header(unpacked, 0, path), path)
    return RawHeader(*header, n_extensions=0, is_complete=length > 0 and length % BLOCK == 0)


def _header(stream: IO[bytes] | gzip.GzipFile, start: int, path: Path) -> bytes:
    """Return the blocks of the primary header.

    Raises
    ------
    InputError
        If the file is no FITS file.
    DamagedError
        If it ends within the header.
    """
    content = bytearray()
    while len(content) < HEADER_BLOCKS * BLOCK:
        block = stream.read(BLOCK)
        if not content and block[:9] != b"SIMPLE  =":
            raise InputError("raw file is not FITS", value=path, remedy=REMEDY)
        if len(block) < BLOCK:
            break
        content += block
        if _header_bytes(block):
            return bytes(content)
    raise DamagedError(f"the file ends in the header at byte {start}")


def _exposure_header(content: bytes, path: Path) -> tuple[Exposure, int]:
    """Return the exposure of a primary header and the number of extensions that it states."""
    cards = readable_cards(fits.Header.fromstring(content.decode("ascii", "replace")), KEYS)
    processed, camera = (str(cards.get(key) or "").strip() for key in ("PROCTYPE", "INSTRUME"))
    if processed and processed.lower() != "raw":
        raise InputError("no raw file: a processed image", value=f"PROCTYPE {processed} in {path}", remedy=OTHER)
    if camera and camera.lower() != "decam":
        raise InputError("no raw file of the camera", value=f"INSTRUME {camera} in {path}", remedy=OTHER)
    if not str(cards.get("PROPID") or "").strip():
        cards["PROPID"] = cards.get("DTPROPID") or ""
    stated = cards.get("NEXTEND")
    n_stated = stated if isinstance(stated, int) and 0 < stated < 1000 else 0
    return exposure_from_header(cards, str(path)), n_stated


def _extensions(stream: IO[bytes], start: int, size: int) -> tuple[int, bool]:
    """Return the number of complete extensions from a byte on, and whether the file ends with the last of them."""
    count, place, file = 0, start, stream.fileno()
    while place < size:
        content = os.pread(file, AT_ONCE, place)
        length = _header_bytes(content)
        while not length and len(content) < HEADER_BLOCKS * BLOCK:
            more = os.pread(file, AT_ONCE, place + len(content))
            if not more:
                return count, False
            content += more
            length = _header_bytes(content)
        if not length or content[:9] != b"XTENSION=":
            return count, False
        try:
            place += length + _padded(_data_bytes(content[:length]))
        except ValueError:
            return count, False
        if place > size:
            return count, False
        count += 1
    return count, True


def _header_bytes(content: bytes) -> int:
    """Return the length of the header that some bytes begin with; 0 if they do not hold its end."""
    place = content.find(END)
    while place >= 0 and place % CARD:
        place = content.find(END, place + 1)
    length = _padded(place + CARD)
    return length if place >= 0 and length <= len(content) else 0


def _data_bytes(header: bytes) -> int:
    """Return the bytes of the data that the first cards of a header describe.

    Raises
    ------
    ValueError
        If a size is missing or impossible.
    """
    values = dict(reversed(_SIZE.findall(header, 0, SIZES * CARD)))  # the first of several counts
    n_axes = int(values.get(b"NAXIS", b""))
    if n_axes == 0:
        return 0
    axes = [int(values.get(b"NAXIS%d" % (n + 1), b"")) for n in range(min(n_axes, MOST_AXES))]
    bits, n_before, n_groups = (int(values.get(key, default)) for key, default in _OTHERS)
    if len(axes) != n_axes or min(*axes, n_before, n_groups) < 0 or bits not in BITS:
        raise ValueError("impossible sizes")
    return abs(bits) // 8 * n_groups * (n_before + math.prod(axes))


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // BLOCK) * BLOCK


def is_gzipped(path: Path) -> bool:
    """Whether a file is compressed as a whole.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as stream:
        return stream.read(2) == GZIP


def unpack_raw(path: Path, target: Path) -> None:
    """Write the content of a gzipped raw file, so that each CCD can be read by itself.

    Raises
    ------
    InputError
        If the file is damaged.
    StorageError
        If the content cannot be written.
    """
    with reading(path, "raw file missing or unreadable", REMEDY), gzip.open(path) as packed:
        packed.peek(1)
        with atomic_path(target, flush=False) as temporary, temporary.open("wb") as stream:
            written = 0
            while chunk := _unpacked(packed, path):
                written += stream.write(chunk)
                if written > MAX_UNPACKED_BYTES:
                    raise DamagedError(f"its content has more than {MAX_UNPACKED_BYTES} bytes")


def _unpacked(packed: gzip.GzipFile, path: Path) -> bytes:
    """Return the next part of a gzipped file's content; its damage is no failure of the disk that is written to."""
    with reading(path, "raw file missing or unreadable", REMEDY):
        return packed.read(1 << 22)


def copy_raw(path: Path, target: Path, *, link: bool) -> None:
    """Copy a raw file, or link it by a symbolic link; an existing target is replaced.

    Raises
    ------
    InputError
        If the file has changed while it was copied.
    StorageError
        If it cannot be written.
    """
    with atomic_path(target, flush=not link) as temporary:
        if link:
            temporary.symlink_to(path.absolute())
            return
        before = path.stat()
        shutil.copyfile(path, temporary)
        if (before.st_size, before.st_mtime_ns) != (path.stat().st_size, path.stat().st_mtime_ns):
            raise InputError("raw file changed while it was copied", value=path, remedy="run the same command again")

"""Check files before libraries read them.

:func:`check_fits` holds a FITS file against its own size, its checksums (FITS standard 4.0, appendix J) and what a
camera can have, before C code allocates what a header asks for.
"""

import gzip
import io
import math
import mmap
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np

from imaging.errors import InputError
from imaging.io.checksums import CARD, ones_complement_sum
from imaging.io.damage import DamagedError

BLOCK = 2880

HEADER_BLOCKS = 2000
"""Blocks of a header; real ones have fewer than 50."""

MAX_PIXELS = 1 << 29
"""Pixels of an image: a square of 23 000, more than all CCDs of the camera."""

MAX_UNPACKED_BYTES = 1 << 32
"""Bytes of a file that was compressed as a whole."""

PACKERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x1f\x9d": "compress", b"(\xb5/\xfd": "zstd"}
"""How files begin that a program has compressed as a whole, and the program. Only gzip is undone."""

BITS = (8, 16, 32, 64, -32, -64)

FORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])")
WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
"""Bytes of a value of a table by its TFORM; X is counted in bits."""


@dataclass(frozen=True, slots=True)
class HduLayout:
    """Place of one HDU in a file.

    Attributes
    ----------
    cards
        Keywords to the texts of their values, the first of several.
    start, data_start, data_end
        Bytes of the header's begin, the data's begin and its padded end.
    ambiguous
        Keywords that occur with several values.
    """

    cards: Mapping[str, str]
    start: int
    data_start: int
    data_end: int
    ambiguous: frozenset[str] = frozenset()

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the value of a keyword.

        Raises
        ------
        DamagedError
            If it is no integer, or missing without a default.
        """
        text = self.cards.get(key)
        if text is None and default is not None:
            return default
        if text is None or re.fullmatch(r"[+-]?\d{1,19}", text) is None:
            raise DamagedError(f"{key} = {text} at byte {self.start} is no integer")
        return int(text)

    def text(self, key: str) -> str:
        """Return the text of a keyword without its quotes; empty if it is missing."""
        return self.cards.get(key, "").strip("'").strip()


def check_fits(
    content: bytes | mmap.mmap, *, headers: bool = True, names: Container[str] | None = None
) -> list[HduLayout]:
    """Check structure, sizes and checksums of a FITS file.

    DATASUM is verified wherever it states the sum of the bytes in the file. In a compressed image in which it equals
    ZDATASUM it is the sum of the image before compression, as archives write it.

    Parameters
    ----------
    content
        The bytes of the file.
    headers
        Whether to verify CHECKSUM as well, which covers the header; people edit headers without renewing it.
    names
        Names of the extensions whose data are to be read and so verified; None for all.

    Raises
    ------
    DamagedError
        If the file contradicts itself, with the place and the value.
    """
    packer = next((name for magic, name in PACKERS.items() if content[: len(magic)] == magic), None)
    if packer is not None:
        raise DamagedError(f"the file is compressed with {packer}, unpack it first")
    found: list[HduLayout] = []
    place = 0
    while place < len(content):
        if found and content[place : place + 9] not in (b"XTENSION=",):
            if bytes(content[place : place + (1 << 20)]).strip(b"\0 "):
                raise DamagedError(f"byte {place} begins no extension")
            break
        hdu = hdu_layout(content, place, first=not found)
        check_sums(content, hdu, headers=headers, data=names is None or hdu.text("EXTNAME") in names)
        found.append(hdu)
        place = hdu.data_end
    if not found:
        raise DamagedError("the file is empty")
    return found


def hdu_layout(content: bytes | mmap.mmap, start: int, *, first: bool) -> HduLayout:
    """Read the header of an HDU and check the sizes that it states.

    Raises
    ------
    DamagedError
        If they are impossible, or the file ends within the HDU.
    """
    cards: dict[str, str] = {}
    ambiguous: set[str] = set()
    for block in range(HEADER_BLOCKS):
        place = start + block * BLOCK
        part = bytes(content[place : place + BLOCK])
        if len(part) < BLOCK:
            raise DamagedError(f"the file ends in the header at byte {start}")
        for n in range(0, BLOCK, CARD):
            key = part[n : n + 8].decode("ascii", "replace").rstrip()
            if key == "END":
                break
            if part[n + 8 : n + 10] == b"= ":
                value = _value(part[n + 10 : n + CARD].decode("ascii", "replace"))
                if not _same(cards.setdefault(key, value), value):
                    ambiguous.add(key)
        else:
            continue
        hdu = HduLayout(cards, start, place + BLOCK, place + BLOCK)
        break
    else:
        raise DamagedError(f"the header at byte {start} has no END")
    if (first and cards.get("SIMPLE") != "T") or (not first and "XTENSION" not in cards):
        raise DamagedError(f"byte {start} begins no {'FITS file' if first else 'extension'}")
    end = hdu.data_start + _data_bytes(hdu)
    if end > len(content):
        raise DamagedError(f"the file ends in the data at byte {hdu.data_start}")
    hdu = HduLayout(cards, start, hdu.data_start, min(-(-end // BLOCK) * BLOCK, len(content)), frozenset(ambiguous))
    if hdu.text("XTENSION") == "BINTABLE":
        _check_table(hdu)
        if cards.get("ZIMAGE") == "T":
            _check_tiles(content, hdu)
    elif math.prod(_axes(hdu, "") or [0]) > MAX_PIXELS:
        raise DamagedError(f"image of {_axes(hdu, '')} pixels at byte {start}")
    return hdu


def check_sums(content: bytes | mmap.mmap, hdu: HduLayout, *, headers: bool = True, data: bool = True) -> None:
    """Verify the checksums of an HDU: of its header, with the sum of the data that it states, and of its data.

    Parameters and errors as in :func:`check_fits`.
    """
    stated, compressed = hdu.text("DATASUM"), hdu.text("ZDATASUM")
    if not stated or stated == compressed:
        return
    if not re.fullmatch(r"\d{1,10}", stated):
        raise DamagedError(f"DATASUM = {stated} at byte {hdu.start}")
    total = int(stated)
    view = memoryview(content)
    if data and total != _sum(view, hdu.data_start, hdu.data_end):
        raise DamagedError(f"the data at byte {hdu.data_start} differ from their checksum, DATASUM {stated}")
    if headers and hdu.text("CHECKSUM"):
        total = _sum(view, hdu.start, hdu.data_start, total)
        if total not in (0, 0xFFFFFFFF):
            raise DamagedError(f"the header at byte {hdu.start} differs from its CHECKSUM")


def _sum(view: memoryview, first: int, end: int, start: int = 0) -> int:
    """Return the checksum of some bytes; a file may end within the zeros that fill its last block."""
    odd = (end - first) % 4
    total = ones_complement_sum(view[first : end - odd], start)
    return ones_complement_sum(bytes(view[end - odd : end]).ljust(4, b"\0"), total) if odd else total


def fits_file(path: Path, *, headers: bool = True, names: Container[str] | None = None) -> str | io.BytesIO:
    """Check a FITS file and return what is to be opened: the path, or the bytes of a gzipped file.

    Parameters as in :func:`check_fits`.

    Raises
    ------
    DamagedError
        If the file contradicts itself.
    OSError
        If it cannot be read.
    """
    _, unpacked = _examined(path, headers=headers, names=names)
    return str(path) if unpacked is None else io.BytesIO(unpacked)


def fits_layouts(path: Path, *, headers: bool = True, names: Container[str] | None = ()) -> list[HduLayout]:
    """Check structure and headers of a FITS file, of its data those that are named, and return its HDUs.

    Parameters as in :func:`check_fits`.

    Raises
    ------
    DamagedError
        If the file contradicts itself.
    OSError
        If it cannot be read.
    """
    return _examined(path, headers=headers, names=names)[0]


def _examined(
    path: Path, *, headers: bool = True, names: Container[str] | None = None
) -> tuple[list[HduLayout], bytes | None]:
    """Check a file; return its HDUs, and the content of a gzipped one."""
    with Path(path).open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            stream.seek(0)
            with gzip.open(stream) as unpacked:
                content = unpacked.read(MAX_UNPACKED_BYTES)
            return check_fits(content, headers=headers, names=names), content
    with mapped(path) as content_on_disk:
        return check_fits(content_on_disk, headers=headers, names=names), None


@contextmanager
def mapped(path: Path) -> Iterator[bytes | mmap.mmap]:
    """Map a file into memory inside the ``with`` block; an empty file gives no bytes."""
    with Path(path).open("rb") as stream:
        if not stream.read(1):
            yield b""
            return
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        yield content
    finally:
        # Dask's profiler may hold the frame of a function that has just returned, and with it an array of these bytes;
        # then the file is unmapped with the last of them.
        with suppress(BufferError):
            content.close()


def _value(text: str) -> str:
    """Return the value of a card as text, without its comment."""
    text = text.strip()
    if text.startswith("'"):
        match = re.match(r"'(?:[^']|'')*'", text)
        return match[0] if match else text
    return text.split("/")[0].strip()


def _same(first: str, second: str) -> bool:
    """Return whether the texts of two cards state one value."""
    if first.strip("' ") == second.strip("' "):
        return True
    with suppress(ValueError):
        return float(first) == float(second)
    return False


def _axes(hdu: HduLayout, prefix: str) -> list[int]:
    n_axes = hdu.integer(f"{prefix}NAXIS")
    if not 0 <= n_axes <= 9:
        raise DamagedError(f"{prefix}NAXIS = {n_axes} at byte {hdu.start}")
    axes = [hdu.integer(f"{prefix}NAXIS{n + 1}") for n in range(n_axes)]
    for n, axis in enumerate(axes, 1):
        if axis < 0:
            raise DamagedError(f"{prefix}NAXIS{n} = {axis} at byte {hdu.start}")
    return axes


def _data_bytes(hdu: HduLayout) -> int:
    bits = hdu.integer("BITPIX")
    if bits not in BITS:
        raise DamagedError(f"BITPIX = {bits} at byte {hdu.start}")
    axes = _axes(hdu, "")
    n_before, n_groups = hdu.integer("PCOUNT", 0), hdu.integer("GCOUNT", 1)
    if n_before < 0 or n_groups < 0:
        raise DamagedError(f"PCOUNT = {n_before}, GCOUNT = {n_groups} at byte {hdu.start}")
    return abs(bits) // 8 * n_groups * (n_before + math.prod(axes)) if axes else 0


def _check_table(hdu: HduLayout) -> None:
    n_fields = hdu.integer("TFIELDS")
    if not 0 <= n_fields <= 999:
        raise DamagedError(f"TFIELDS = {n_fields} at byte {hdu.start}")
    width = 0
    for n in range(1, n_fields + 1):
        match = FORM.match(hdu.text(f"TFORM{n}"))
        if match is None:
            raise DamagedError(f"TFORM{n} = {hdu.cards.get(f'TFORM{n}')} at byte {hdu.start}")
        count = int(match[1] or 1)
        width += -(-count // 8) if match[2] == "X" else count * WIDTHS[match[2]]
    if width != hdu.integer("NAXIS1"):
        raise DamagedError(f"NAXIS1 = {hdu.integer('NAXIS1')} at byte {hdu.start} where the columns have {width} bytes")


def _check_tiles(content: bytes | mmap.mmap, hdu: HduLayout) -> None:
    """Check a tile-compressed image: sizes, number of tiles, and that each tile lies in the file."""
    axes = _axes(hdu, "Z")
    if not axes or min(axes) < 1 or math.prod(axes) > MAX_PIXELS or hdu.integer("ZBITPIX") not in BITS:
        raise DamagedError(f"compressed image of {axes} pixels at byte {hdu.start}")
    tiles = [hdu.integer(f"ZTILE{n + 1}", axis if n == 0 else 1) for n, axis in enumerate(axes)]
    if min(tiles) < 1:
        raise DamagedError(f"tiles of {tiles} pixels at byte {hdu.start}")
    n_tiles = math.prod(-(-axis // tile) for axis, tile in zip(axes, tiles, strict=True))
    rows, width = hdu.integer("NAXIS2"), hdu.integer("NAXIS1")
    if rows != n_tiles:
        raise DamagedError(f"{rows} tiles where the image has {n_tiles}, at byte {hdu.start}")
    table = np.frombuffer(content, np.uint8, rows * width, hdu.data_start).reshape(rows, width)
    heap, n_heap = hdu.integer("THEAP", rows * width) - rows * width, hdu.integer("PCOUNT")
    offset = 0
    for n in range(1, hdu.integer("TFIELDS") + 1):
        match = FORM.match(hdu.text(f"TFORM{n}"))
        if match is None:
            continue
        kind, count = match[2], int(match[1] or 1)
        if kind in "PQ" and count:
            item = ">i4" if kind == "P" else ">i8"
            found = FORM.match(hdu.text(f"TFORM{n}")[match.end() :])
            size = WIDTHS.get(found[2], 1) if found else 1
            pairs = table[:, offset : offset + WIDTHS[kind]].copy().view(item).astype(np.float64)
            if (pairs < 0).any() or (heap + pairs[:, 1] + size * pairs[:, 0] > n_heap).any():
                raise DamagedError(f"a tile lies outside of the file, extension at byte {hdu.start}")
        offset += -(-count // 8) if kind == "X" else count * WIDTHS[kind]


def require_whole(path: Path) -> None:
    """Raise if a file ends within an extension: CFITSIO may read it as a whole file without that extension.

    Raises
    ------
    InputError
        If the file is cut off; one that cannot be opened is left to its reader.
    """
    try:
        with fitsio.FITS(str(path)) as file, path.open("rb") as stream:
            is_plain, end = stream.read(6) == b"SIMPLE", file[len(file) - 1].get_offsets()["data_end"]
            stream.seek(end)
            rest = stream.read(8)
    except OSError:
        return
    if is_plain and (path.stat().st_size < end or rest == b"XTENSION"):
        raise InputError("image file is cut off", value=path, remedy="copy the file again")

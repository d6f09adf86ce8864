"""Compress and read images in tiles (FITS standard 4.0, chapter 10), in the two forms of our products.

Pixels that are multiples of a step: RICE_1 of 32-bit integers with BSCALE (:mod:`imaging.numerics.rice`). Masks of 16
bits: GZIP_1. Other forms, and headers, are left to CFITSIO.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.io.checked import BLOCK, HduLayout
from imaging.io.checksums import CARD
from imaging.numerics.rice import Bytes, decode, encode

PIXEL_ROWS = 16
"""Rows of a tile of pixels: a stamp is read without the rest of the image."""

MASK_ROWS = 64
"""Rows of a tile of a mask: half the bytes of tiles of one row."""

LEVEL = 2
"""Level of zlib: a higher one takes twice the time for a tenth of a megabyte."""

GZIP = 31
"""Parameter of zlib for the format of gzip."""

COMMON = {"TFIELDS": "1", "TFORM1": "1PB(", "ZNAXIS": "2"}
RICE_CARDS = COMMON | {"ZCMPTYPE": "RICE_1", "ZBITPIX": "32", "ZVAL1": "32", "ZVAL2": "4"}
MASK_CARDS = COMMON | {"ZCMPTYPE": "GZIP_1", "ZBITPIX": "16"}
"""What the texts of keywords begin with in our two forms."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """A compressed image.

    Attributes
    ----------
    stream
        Bytes of all tiles.
    ends
        End of each tile in the stream.
    shape
        (ny, nx) of the image.
    options
        How fitsio is told of this form.
    """

    stream: bytes | memoryview
    ends: NDArray[np.int64]
    shape: tuple[int, int]
    options: Mapping[str, Any]

    def data(self) -> list[bytes | memoryview]:
        """Return the parts of the data of the HDU: table of tiles, tiles, zeros up to the end of the block."""
        sizes = np.diff(self.ends, prepend=0)
        table = np.stack([sizes, self.ends - sizes], axis=1).astype(">i4").tobytes()
        return [table, self.stream, bytes(-(len(table) + len(self.stream)) % BLOCK)]

    def header(self, cards: bytes) -> bytes:
        """Return the header of an HDU without tiles as that of the HDU with these."""
        longest = int(np.diff(self.ends, prepend=0).max())
        return _with_values(cards, {"PCOUNT": f"{len(self.stream):>20d}", "TFORM1": f"'1PB({longest})'".ljust(20)})


def pixel_tiles(multiples: NDArray[np.int32]) -> Tiles:
    """Compress (ny, nx) integers."""
    stream, ends = encode(multiples, PIXEL_ROWS)
    return _tiles(stream.data, ends, multiples, "RICE", PIXEL_ROWS)


def mask_tiles(mask: NDArray[np.int16]) -> Tiles:
    """Compress a (ny, nx) mask."""
    rows = mask.astype(">i2")
    parts = []
    for first in range(0, len(rows), MASK_ROWS):
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        parts.append(packer.compress(rows[first : first + MASK_ROWS].tobytes()) + packer.flush())
    return _tiles(b"".join(parts), np.cumsum([len(part) for part in parts]), mask, "GZIP", MASK_ROWS)


def _tiles(stream: bytes | memoryview, ends: NDArray[np.int64], image: NDArray[Any], form: str, rows: int) -> Tiles:
    ny, nx = image.shape
    return Tiles(stream, ends, (ny, nx), {"compress": form, "tile_dims": (min(rows, ny), nx), "dtype": image.dtype})


def with_tiles(
    file: bytes, places: list[dict[str, int]], tiles: Mapping[int, Tiles]
) -> Iterator[list[bytes | memoryview]]:
    """Yield header and parts of the data of each HDU of a file, those that have no tiles yet with theirs.

    Parameters
    ----------
    file
        Bytes of the file.
    places
        Begin of the header, and begin and end of the data, of each HDU.
    tiles
        Number of an HDU to its tiles.
    """
    for number, place in enumerate(places):
        header = file[place["header_start"] : place["data_start"]]
        if number in tiles:
            yield [tiles[number].header(header), *tiles[number].data()]
        else:
            yield [header, file[place["data_start"] : place["data_end"]]]


def read_tiles(path: Path, hdu: HduLayout, rows: slice = slice(None)) -> NDArray[Any] | None:
    """Read a compressed image of one of our two forms; None if it has another one.

    Parameters
    ----------
    path, hdu
        A file whose structure was checked, and the place of the HDU in it.
    rows
        Rows of the image to read.

    Raises
    ------
    ValueError, zlib.error
        If a tile is damaged.
    """
    is_mask = _has(hdu, MASK_CARDS) and "BSCALE" not in hdu.cards
    is_image = _has(hdu, RICE_CARDS) and "BSCALE" in hdu.cards
    if not (is_mask or is_image) or "THEAP" in hdu.cards or "BZERO" in hdu.cards:
        return None
    shape, height = (hdu.integer("ZNAXIS2"), hdu.integer("ZNAXIS1")), hdu.integer("ZTILE2", 1)
    if hdu.integer("ZTILE1", shape[1]) != shape[1]:
        return None
    n_tiles, start = hdu.integer("NAXIS2"), hdu.data_start
    first, after, _ = rows.indices(shape[0])
    wanted = slice(first // height, -(-max(after, first + 1) // height))
    table = np.fromfile(path, dtype=">i4", count=2 * n_tiles, offset=start).reshape(n_tiles, 2)[wanted].astype(np.int64)
    begins, ends = table[:, 1], table[:, 1] + table[:, 0]
    heap = np.fromfile(
        path, dtype=np.uint8, count=int(ends.max() - begins.min()), offset=start + 8 * n_tiles + int(begins.min())
    )
    begins, ends = begins - begins.min(), ends - begins.min()
    ny = min(wanted.stop * height, shape[0]) - wanted.start * height
    part = slice(first - wanted.start * height, after - wanted.start * height)
    if is_mask:
        return _mask(heap, begins, ends, (ny, shape[1]))[part]
    return decode(heap, begins, ends, (ny, shape[1]), height, float(hdu.cards["BSCALE"]))[part]


def _has(hdu: HduLayout, cards: Mapping[str, str]) -> bool:
    return all(hdu.text(key).startswith(value) for key, value in cards.items())


def _mask(heap: Bytes, begins: NDArray[np.int64], ends: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int16]:
    size = 2 * shape[0] * shape[1]
    parts: list[bytes] = []
    for begin, end in zip(begins, ends, strict=True):
        parts.append(zlib.decompressobj(GZIP).decompress(heap[begin:end].tobytes(), size + 1))
    return np.frombuffer(b"".join(parts), dtype=">i2").reshape(shape).astype(np.int16)


def _with_values(header: bytes, texts: Mapping[str, str]) -> bytes:
    """Return a header with other texts of 20 characters as the values of some keywords."""
    for key, text in texts.items():
        place = next(i for i in range(0, len(header), CARD) if header[i : i + 9] == f"{key:<8}=".encode()) + 10
        header = header[:place] + text.encode() + header[place + 20 :]
    return header

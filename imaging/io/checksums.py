"""Checksums of FITS files (Seaman, Pence and Rots 2012; FITS standard 4.0, appendix J), without the time of writing.

CFITSIO and astropy write the time into the comments of the two keywords, so that the same content would give different
bytes. The comments here are fixed.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits

CARD = 80

CHUNK = 1 << 22
"""Bytes read at once."""

UNSET = {"CHECKSUM": ("0" * 16, "HDU checksum"), "DATASUM": ("0" * 10, "data unit checksum")}
"""Value and comment of both keywords before the checksums are known: text of the final length."""


def ones_complement_sum(data: bytes | memoryview, start: int = 0) -> int:
    """Return the 32-bit ones' complement sum of the FITS checksum convention (Seaman, Pence and Rots 2012)."""
    total = start + int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def checksum_text(total: int) -> str:
    """Encode the complement of a sum as the 16 characters of the CHECKSUM keyword."""
    complement = 0xFFFFFFFF - total
    text = [""] * 16
    for i in range(4):
        byte = complement >> (24 - 8 * i) & 0xFF
        quotient, remainder = divmod(byte, 4)
        values = [quotient + remainder + 48, quotient + 48, quotient + 48, quotient + 48]
        while any(_is_punctuation(value) for value in values):
            for k in (0, 2):
                if _is_punctuation(values[k]) or _is_punctuation(values[k + 1]):
                    values[k] += 1
                    values[k + 1] -= 1
        for j in range(4):
            text[4 * j + i] = chr(values[j])
    return text[-1] + "".join(text[:-1])


def set_checksums(path: Path, offsets: Sequence[tuple[int, int, int]]) -> None:
    """Set DATASUM and CHECKSUM of the HDUs of a file in which both have the values of :data:`UNSET`.

    Parameters
    ----------
    path
        The file, changed in place.
    offsets
        Start of header, start of data and end of data of each HDU, bytes.
    """
    with path.open("r+b") as stream:
        _set(stream, offsets)


def bytes_with_checksums(hdus: fits.HDUList) -> bytes:
    """Return a small FITS file as bytes, with both keywords in every HDU."""
    for hdu in hdus:
        hdu.header.update(UNSET)
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    with fits.open(io.BytesIO(buffer.getvalue())) as written:
        places = [hdu.fileinfo() for hdu in written]
    _set(buffer, [(place["hdrLoc"], place["datLoc"], place["datLoc"] + place["datSpan"]) for place in places])
    return buffer.getvalue()


def _set(stream: BinaryIO, offsets: Sequence[tuple[int, int, int]]) -> None:
    for start, data_start, end in offsets:
        stream.seek(start)
        header, datasum = stream.read(data_start - start), 0
        for first in range(data_start, end, CHUNK):
            datasum = ones_complement_sum(stream.read(min(CHUNK, end - first)), datasum)
        header = _with_value(header, "DATASUM", f"{datasum:<10d}")
        stream.seek(start)
        stream.write(_with_value(header, "CHECKSUM", checksum_text(ones_complement_sum(header, datasum))))


def _with_value(header: bytes, key: str, value: str) -> bytes:
    """Return a header with another text of the same length as the value of a keyword."""
    place = next(i for i in range(0, len(header), CARD) if header[i : i + 9] == f"{key:<8}=".encode()) + 11
    return header[:place] + value.encode() + header[place + len(value) :]


def _is_punctuation(code: int) -> bool:
    return 0x3A <= code <= 0x40 or 0x5B <= code <= 0x60

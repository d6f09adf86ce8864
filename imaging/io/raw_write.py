"""Write raw DECam exposures in the observatory's format: RICE-compressed extensions with checksums.

The extensions are encoded one by one, in any process, and concatenated; no time stamps are written.
"""

import shutil
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.io.atomic import atomic_path
from imaging.io.checksums import checksum_text, ones_complement_sum

BLOCK = 2880

Card = tuple[str, Any, str]
"""Key, value, comment; None marks values determined by the encoding of the pixels."""

_FROM_ENCODING = ("NAXIS2", "PCOUNT", "TFORM1", "ZNAXIS1", "ZNAXIS2", "ZTILE1")


def encode_primary(cards: Sequence[Card], date: str) -> bytes:
    """Return the bytes of a primary HDU without data.

    Parameters
    ----------
    cards
        The header; CHECKSUM and DATASUM are computed.
    date
        Date for the comments of the checksums.
    """
    filled = [(key, "0" if key == "DATASUM" else value, comment) for key, value, comment in cards]
    return _with_checksum(filled, b"", 0, date)


def encode_extension(cards: Sequence[Card], pixels: NDArray[np.uint16], date: str) -> bytes:
    """Return the bytes of one CCD's extension, tile-compressed by rows with RICE.

    Parameters
    ----------
    cards
        The header; the values of the compressed table and the checksums are computed.
    pixels
        (ny, nx) uint16.
    date
        Date for the comments of the checksums.
    """
    file = fitsio.FITS("mem://", "rw", clobber=True)
    try:
        file.write(pixels, compress="RICE", tile_dims=[1, pixels.shape[1]])
        content = bytes(file.read_raw())
    finally:
        file.close()
    stream = BytesIO(content)
    for _ in range(2):
        header = fits.Header.fromfile(stream, endcard=True, padding=True)
    data = content[stream.tell() :]
    datasum = ones_complement_sum(data)
    signed = (pixels.astype(np.int32) - 32768).astype(">i2").tobytes()
    known: dict[str, Any] = {key: header[key] for key in _FROM_ENCODING}
    known["DATASUM"] = str(datasum)
    known["ZDATASUM"] = str(ones_complement_sum(signed + b"\0" * (-len(signed) % BLOCK)))
    known["ZHECKSUM"] = ""  # undefined: the uncompressed header does not exist
    filled = [(key, known.get(key) if value is None else value, comment) for key, value, comment in cards]
    return _with_checksum(filled, data, datasum, date)


def write_raw(path: Path, primary: bytes, extensions: Iterable[Path]) -> None:
    """Write a raw file from its primary HDU and its encoded extensions, atomically.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(primary)
        for extension in extensions:
            with extension.open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 22)


def _with_checksum(cards: Sequence[Card], data: bytes, datasum: int, date: str) -> bytes:
    """Join header and data; the checksum makes the sum of the whole HDU all ones."""
    without = _header_bytes(cards, "0" * 16, date)
    total = ones_complement_sum(without, datasum)
    return _header_bytes(cards, checksum_text(total), date) + data


def _header_bytes(cards: Sequence[Card], checksum: str, date: str) -> bytes:
    images = []
    for key, given, given_comment in cards:
        value, comment = given, given_comment
        if key == "CHECKSUM":
            value, comment = checksum, f"HDU checksum updated {date}"
        elif key.endswith("DATASUM"):
            comment = f"data unit checksum updated {date}"
        images.append(fits.Card(key, value, comment or None).image)
    text = "".join(images) + "END".ljust(80)
    return text.encode("ascii").ljust(-(-len(text) // BLOCK) * BLOCK)

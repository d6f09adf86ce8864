"""Write and read alert packets as Avro files."""

import gzip
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from astropy.io import fits
from numpy.typing import NDArray

from imaging.candidates.packets import PACKETS
from imaging.errors import InputError
from imaging.io.atomic import write_bytes

DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, struct.error, zlib.error)
"""What fastavro raises on damaged files, besides its own errors."""
REMEDY = "pip install 'gw-workflow[avro]'"


def write_packets(path: Path, packets: Sequence[dict[str, Any]], form: str = "avro") -> None:
    """Write alert packets as an Avro container file; the same packets give the same bytes.

    Parameters
    ----------
    path
        File to write.
    packets
        Packets of one form.
    form
        Form of the packets, a key of :data:`imaging.candidates.packets.PACKETS`.

    Raises
    ------
    InputError
        If fastavro is not installed, or a packet does not fit the schema.
    StorageError
        If the file cannot be written.
    """
    write_bytes(path, packets_bytes(packets, form))


def packets_bytes(packets: Sequence[dict[str, Any]], form: str = "avro") -> bytes:
    """Return alert packets as the bytes of an Avro container with schema, the message format of brokers.

    Raises
    ------
    InputError
        If fastavro is not installed, or a packet does not fit the schema.
    """
    fastavro = _fastavro()
    schema = fastavro.parse_schema(PACKETS[form][1]())
    plain = io.BytesIO()
    try:
        for packet in packets:
            fastavro.schemaless_writer(plain, schema, packet)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"a packet does not fit its schema: {str(error).splitlines()[0]}") from error
    marker = xxhash.xxh3_128_digest(plain.getvalue())
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema, packets, codec="deflate", sync_marker=marker)
    return buffer.getvalue()


def read_packets(path: Path) -> list[dict[str, Any]]:
    """Read the alert packets of an Avro container file.

    Raises
    ------
    InputError
        If fastavro is not installed or the file is not a packet file.
    """
    fastavro = _fastavro()
    of_schema = (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType)
    try:
        return list(fastavro.reader(io.BytesIO(Path(path).read_bytes())))
    except (*DAMAGED, *of_schema) as error:
        raise InputError(f"the packets cannot be read: {error}", value=path, remedy="write them again") from error


def cutout_bytes(stamp: NDArray[np.floating], coordinates: Mapping[str, Any]) -> bytes:
    """Return a stamp as a compressed FITS image for a packet.

    Parameters
    ----------
    stamp
        (n, n) pixels.
    coordinates
        Keywords of its coordinates.
    """
    buffer = io.BytesIO()
    header = fits.Header(coordinates.items())
    fits.PrimaryHDU(np.ascontiguousarray(stamp, dtype=np.float32), header).writeto(buffer)
    return gzip.compress(buffer.getvalue(), mtime=0)


def cutout_stamp(content: bytes) -> NDArray[np.float32]:
    """Return the pixels of a packet's cutout."""
    with fits.open(io.BytesIO(gzip.decompress(content))) as file:
        return np.asarray(file[0].data, dtype=np.float32)


def _fastavro() -> Any:  # noqa: ANN401
    try:
        import fastavro
    except ImportError as error:
        raise InputError("alert packets need the package fastavro", remedy=REMEDY) from error
    return fastavro

"""Write and read alert packets as Avro files."""

import gzip
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from astropy.io import fits
from numpy.typing import NDArray

from imaging.candidates.reports import packet_schema
from imaging.errors import InputError
from imaging.io.atomic import write_bytes

DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, struct.error, zlib.error)
"""What fastavro raises on damaged files, besides its own errors."""
REMEDY = "pip install 'gw-workflow[avro]'"


def write_packets(path: Path, packets: Sequence[dict[str, Any]]) -> None:
    """Write alert packets as an Avro container file; the same packets give the same bytes.

    Raises
    ------
    InputError
        If fastavro is not installed, or a packet does not fit the schema.
    StorageError
        If the file cannot be written.
    """
    write_bytes(path, packets_bytes(packets))


def packets_bytes(packets: Sequence[dict[str, Any]]) -> bytes:
    """Return alert packets as the bytes of an Avro container with schema, the message format of brokers.

    Raises
    ------
    InputError
        If fastavro is not installed, or a packet does not fit the schema.
    """
    fastavro = _fastavro()
    schema = fastavro.parse_schema(packet_schema())
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


def cutout_bytes(stamp: NDArray[np.floating]) -> bytes:
    """Return a stamp as a compressed FITS image for a packet."""
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.ascontiguousarray(stamp, dtype=np.float32)).writeto(buffer)
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

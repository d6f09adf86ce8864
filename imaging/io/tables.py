"""Write and read Parquet tables with fixed schemas.

Floats are stored byte-stream-split without dictionaries, which halves size and time relative to the defaults.
"""

import base64
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imaging.errors import StorageError
from imaging.io.atomic import atomic_path
from imaging.io.damage import reading
from imaging.io.sealed import DIGITS, MARK, check_seal, seal_in_place
from imaging.io.table_metadata import astropy_metadata, votable_metadata

SEAL = b"seal"
"""Key of the metadata with the hash of the file."""

ARROW_SCHEMA = b"ARROW:schema"
"""Key of the metadata with the schema of the table, without what describes the file to other programs."""


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table atomically, with units and meanings of its columns for other programs.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    others = [f.name for f in table.schema if f.name not in floats and not pa.types.is_nested(f.type)]
    split = dict.fromkeys(floats, "BYTE_STREAM_SPLIT") or None
    encoding = {"compression": "zstd", "use_dictionary": others, "column_encoding": split}
    table = table.replace_schema_metadata((table.schema.metadata or {}) | astropy_metadata(table))
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, table.schema, **encoding) as file:
            file.write_table(table)
            file.add_key_value_metadata(votable_metadata(table) | {SEAL: MARK + b"0" * DIGITS})
        seal_in_place(temporary)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    with table_of(path):
        check_seal(path)
        return _read(path, columns)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    """Read a table as ``pyarrow.parquet.read_table`` does, without the import of Arrow's datasets, 0.5 CPU s."""
    with pq.ParquetFile(path, memory_map=True) as file:
        absent = [name for name in columns or () if name not in file.schema_arrow.names]
        if absent:
            raise pa.ArrowInvalid(f"no column {absent[0]}")
        stored = (file.metadata.metadata or {}).get(ARROW_SCHEMA)
        table = file.read(columns)
    if stored is None:
        return table
    return table.replace_schema_metadata(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored))).metadata)


def read_tables(paths: Iterable[Path], schema: pa.Schema) -> pa.Table:
    """Read and concatenate several tables of one schema, in the given order; no path gives an empty table."""
    tables = [schema.empty_table()]
    for path in paths:
        found = read_table(path)
        with table_of(path):
            tables.append(found.select(schema.names).cast(schema))
    return pa.concat_tables(tables[1:]) if len(tables) > 1 else tables[0]


def table_of(path: Path) -> AbstractContextManager[None]:
    """Return the context in which a table is read: whatever goes wrong is a ``StorageError`` of this file."""
    return reading(path, "table missing or damaged", "rerun the step that writes it", error=StorageError)

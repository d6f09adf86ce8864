"""Build Arrow tables with fixed schemas from columns, state facts about them, and read columns as NumPy arrays."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Column: TypeAlias = NDArray[Any] | Sequence[Any] | pa.ChunkedArray
Columns = Mapping[str, Column]
Facts = Mapping[str, str | int | float]

ABOUT = b"about"
"""Key of the facts in the metadata of a table's schema, a JSON object."""


def make_table(columns: Columns, schema: pa.Schema) -> pa.Table:
    """Build a table of a fixed schema from columns.

    Raises
    ------
    ValueError
        If a column is missing or unknown.
    """
    if set(columns) != set(schema.names):
        missing, extra = set(schema.names) - set(columns), set(columns) - set(schema.names)
        raise ValueError(f"columns do not match the schema: missing {sorted(missing)}, unknown {sorted(extra)}")
    arrays = [_arrow_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _arrow_array(values: Column, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):  # a column of another table; pa.array would take it value by value
        return values.cast(kind)
    if isinstance(values, np.ndarray) and values.ndim == 2 and pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).ravel(), type=kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return pa.array(values, type=kind)


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as a NumPy array; a fixed-size list becomes a second axis, a null float becomes NaN."""
    chunk = table.column(name).combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):
        chunk = pa.concat_arrays(chunk.chunks) if chunk.num_chunks else pa.array([], type=chunk.type)
    if pa.types.is_fixed_size_list(chunk.type):
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(chunk), chunk.type.list_size)
    return chunk.to_numpy(zero_copy_only=False)


def with_column(table: pa.Table, name: str, values: NDArray[Any]) -> pa.Table:
    """Return a table with other values in a column, whose type and metadata are kept."""
    number = table.schema.get_field_index(name)
    kept = table.schema.field(number)
    return table.set_column(number, kept, _arrow_array(values, kept.type))


def with_facts(table: pa.Table, facts: Facts) -> pa.Table:
    """Return a table with facts about it as a whole in its metadata, which its file then states."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), ABOUT: json.dumps(dict(facts)).encode()})


def facts_of(table: pa.Table) -> Facts:
    """Return the facts about a table as a whole; none by default."""
    return dict(json.loads((table.schema.metadata or {}).get(ABOUT, b"{}")))

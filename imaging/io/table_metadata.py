"""Units and meanings of columns in the metadata of Parquet files, where other programs look for them.

Astropy reads the key ``table_meta_yaml`` (the header of its ECSV format, Astropy Proposal for Enhancement 6) and the
lengths of text columns; STILTS, TOPCAT and astropy's ``parquet.votable`` read a VOTable without data (IVOA Note
"Parquet in the VO" 1.0, Taylor et al. 2025). Both are text, which DuckDB's ``parquet_kv_metadata`` shows.
"""

import json
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
import pyarrow.compute as pc

from imaging.tables import facts_of

VOTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>
{content}
</TABLE></RESOURCE></VOTABLE>
"""

NAMES = {
    pa.bool_(): ("bool", "boolean"),
    pa.int8(): ("int8", "short"),
    pa.int16(): ("int16", "short"),
    pa.int32(): ("int32", "int"),
    pa.int64(): ("int64", "long"),
    pa.float32(): ("float32", "float"),
    pa.float64(): ("float64", "double"),
    pa.string(): ("string", "char"),
}
"""Names of the types in ECSV and in VOTable."""

QUOTED = {"electron": "'electron'"}
"""Units that VOUnits 1.1 does not know and wants in quotes."""


def astropy_metadata(table: pa.Table) -> dict[bytes, bytes]:
    """Return the metadata of a table's schema that describes its columns to astropy.

    Parameters
    ----------
    table
        A table whose fields may have ``unit`` and ``meaning`` in their metadata, and its schema further facts
        (:func:`imaging.tables.with_facts`). A table with columns of other types than those of :data:`NAMES` and lists
        of them is not described.
    """
    if not _is_describable(table.schema):
        return {}
    columns, facts = "".join(f"- {json.dumps(_ecsv_column(field))}\n" for field in table.schema), facts_of(table)
    metadata = {"table_meta_yaml": f"datatype:\n{columns}" + (f"meta: {json.dumps(facts)}\n" if facts else "")}
    metadata |= {f"table::len::{field.name}": str(_longest(table, field)) for field in table.schema if _is_text(field)}
    return _encoded(metadata)


def votable_metadata(table: pa.Table) -> dict[bytes, bytes]:
    """Return the metadata of a table's file that describes its columns to programs of the Virtual Observatory.

    They are no part of the Arrow schema, which would store them twice. The parameter is that of
    :func:`astropy_metadata`.
    """
    if not _is_describable(table.schema):
        return {}
    facts = facts_of(table)
    content = [f"<PARAM name={quoteattr(k)} {_type_of(v)} value={quoteattr(str(v))}/>" for k, v in facts.items()]
    content += [_votable_field(field, _longest(table, field) if _is_text(field) else 0) for field in table.schema]
    metadata = {
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": VOTABLE.format(content="\n".join(content)),
    }
    return _encoded(metadata | {key: str(value) for key, value in facts.items()})


def _encoded(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    return {key.encode(): value.encode() for key, value in metadata.items()}


def _is_describable(schema: pa.Schema) -> bool:
    return all(_element(field.type) in NAMES for field in schema)


def _element(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else kind


def _is_text(field: pa.Field) -> bool:
    return bool(pa.types.is_string(field.type))


def _longest(table: pa.Table, field: pa.Field) -> int:
    """Return the length of the longest text of a column, at least 1; astropy reads null as ``None``."""
    column = table.column(field.name)
    longest = pc.max(pc.utf8_length(column)).as_py() or 1
    return max(longest, len("None")) if column.null_count else longest


def _described(field: pa.Field) -> tuple[str, str]:
    about = field.metadata or {}
    return about.get(b"unit", b"").decode(), about.get(b"meaning", b"").decode()


def _ecsv_column(field: pa.Field) -> dict[str, str]:
    (unit, meaning), name = _described(field), NAMES[_element(field.type)][0]
    described = {"name": field.name, "datatype": name}
    if field.type != _element(field.type):
        size = field.type.list_size if pa.types.is_fixed_size_list(field.type) else "null"
        described |= {"datatype": "string", "subtype": f"{name}[{size}]"}
    return described | {key: text for key, text in (("unit", unit), ("description", meaning)) if text}


def _votable_field(field: pa.Field, text_length: int) -> str:
    """Return the element of a column; texts have a fixed length, as in the tables that astropy writes and can read."""
    (unit, meaning), kind = _described(field), field.type
    size = text_length or (kind.list_size if pa.types.is_fixed_size_list(kind) else "*")
    several = f' arraysize="{size}"' if kind != _element(kind) or text_length else ""
    measured = f" unit={quoteattr(QUOTED.get(unit, unit))}" if unit else ""
    head = f"<FIELD name={quoteattr(field.name)} datatype={quoteattr(NAMES[_element(kind)][1])}{several}{measured}"
    return f"{head}><DESCRIPTION>{escape(meaning)}</DESCRIPTION></FIELD>" if meaning else f"{head}/>"


def _type_of(value: str | float) -> str:
    if isinstance(value, str):
        return 'datatype="char" arraysize="*"'
    return f'datatype="{"long" if isinstance(value, int) else "double"}"'

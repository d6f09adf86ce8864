"""Build Arrow schemas with unit and meaning in the metadata of each field."""

import pyarrow as pa

I8, I16, I32, I64 = pa.int8(), pa.int16(), pa.int32(), pa.int64()
F32, F64, TEXT, BOOL = pa.float32(), pa.float64(), pa.string(), pa.bool_()


NO_ID = -1
"""Identifier where there is no source. A null would turn the whole column into floating-point numbers in pandas and
astropy, and these hold 15 of the 19 digits of Gaia's identifiers."""


def field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    """Return the Arrow field of a column; an empty unit means a dimensionless number or text."""
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


def schema(*fields: pa.Field) -> pa.Schema:
    """Return the Arrow schema of some fields."""
    return pa.schema(list(fields))


IDENTITY = (
    field("expnum", I64, "", "exposure number"),
    field("band", TEXT, "", "band"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("ccd", I16, "", "CCD number"),
)
"""First columns of every per-CCD table."""

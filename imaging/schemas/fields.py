"""Build Arrow schemas whose fields carry their unit and meaning."""

import pyarrow as pa

I8, I16, I32, I64 = pa.int8(), pa.int16(), pa.int32(), pa.int64()
F32, F64, TEXT, BOOL = pa.float32(), pa.float64(), pa.string(), pa.bool_()


def field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    """Describe a column; an empty unit means a pure number or text."""
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


def schema(*fields: pa.Field) -> pa.Schema:
    """Put columns together."""
    return pa.schema(list(fields))


IDENTITY = (
    field("expnum", I64, "", "exposure number"),
    field("band", TEXT, "", "band"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("ccd", I16, "", "CCD number"),
)
"""The columns with which every table of one CCD begins."""

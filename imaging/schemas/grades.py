"""Arrow schema of the grades of quality metrics, one row per CCD and metric."""

from imaging.schemas.fields import F32, IDENTITY, TEXT, field, schema

GRADES = schema(
    *IDENTITY,
    field("key", TEXT, "", "name of the quality metric"),
    field("value", F32, "", "value of the metric; null if the stage has not run"),
    field("unit", TEXT, "", "unit of the value"),
    field("grade", TEXT, "", "green, yellow, orange, red or unknown"),
)

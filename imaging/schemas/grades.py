"""Grades of quality numbers, one row per CCD and number."""

from imaging.schemas.fields import F32, IDENTITY, TEXT, field, schema

GRADES = schema(
    *IDENTITY,
    field("key", TEXT, "", "which quality number"),
    field("value", F32, "", "its value; null if the stage has not run"),
    field("unit", TEXT, "", "unit of the value"),
    field("grade", TEXT, "", "green, yellow, orange, red or unknown"),
)

"""Arrow schema of the labels that people gave to candidates on the page of a night."""

import pyarrow as pa

from imaging.schemas.fields import I32, I64, TEXT, field, schema

LABEL_NAMES = ("real", "bogus", "interesting")

LABELS = schema(
    field("candidate_id", TEXT, "", "candidate"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("event", TEXT, "", "name of the event that was followed up"),
    field("label", TEXT, "", "real, bogus or interesting"),
    field("marked_at", TEXT, "", "time of the label, ISO 8601, UTC"),
    field("detection_ids", pa.list_(I64), "", "identifiers of the candidate's detections"),
)

"""What people said of candidates on the page of a night."""

import pyarrow as pa

from imaging.schemas.fields import I32, I64, TEXT, field, schema

LABEL_NAMES = ("real", "bogus", "interesting")

LABELS = schema(
    field("candidate_id", TEXT, "", "candidate"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("event", TEXT, "", "event that the night followed"),
    field("label", TEXT, "", "real, bogus or interesting"),
    field("marked_at", TEXT, "", "when, ISO 8601, UTC"),
    field("detection_ids", pa.list_(I64), "", "the candidate's detections"),
)

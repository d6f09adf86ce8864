"""Training sets of the real/bogus score from people's labels of candidates."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from imaging.difference.detect import DifferenceDetections
from imaging.difference.measure import Measurements
from imaging.tables import column

WORDS = {"real": True, "bogus": False}
"""Labels used as classes; ``interesting`` is ignored."""

TABLE_NAMES = {"chi2": "chi2_psf", "spread": "spread_model"}
"""Measurements whose column has a different name."""

NOT_KEPT = ("x_error", "y_error", "trail_length", "trail_angle", "trail_length_error", "trail_angle_error")
"""Measurements that are not in the table as such; they are NaN."""


def detections_of_table(table: pa.Table) -> DifferenceDetections:
    """Convert a table of detections to a record.

    Parameters
    ----------
    table
        Rows of :data:`imaging.schemas.difference.DETECTIONS`.
    """
    nothing = np.full(table.num_rows, np.nan)
    measured = Measurements(
        **{
            name: nothing if name in NOT_KEPT else column(table, TABLE_NAMES.get(name, name)).astype(float)
            for name in Measurements.__dataclass_fields__
        }
    )
    rest = {"score": "snr", "dipole_fraction": "dipole_fraction", "template_flux": "template_flux"}
    return DifferenceDetections(
        measured,
        **{name: column(table, source).astype(float) for name, source in rest.items()},
        star_distance_arcsec=column(table, "star_distance_arcsec").astype(float),
        pixel_excess=column(table, "pixel_excess").astype(float),
        flags=column(table, "flags").astype(np.int32),
    )


def labels_by_detection(labels: Iterable[pa.Table]) -> dict[int, bool]:
    """Return which detections are real and which bogus; the latest of several labels counts.

    Parameters
    ----------
    labels
        Tables of :data:`imaging.schemas.labels.LABELS`.
    """
    rows = sorted((row for table in labels for row in table.to_pylist()), key=lambda row: row["marked_at"])
    latest: dict[int, str] = {detection: row["label"] for row in rows for detection in row["detection_ids"]}
    return {detection: WORDS[label] for detection, label in latest.items() if label in WORDS}

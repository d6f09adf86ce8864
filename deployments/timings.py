"""What every step has cost, as a table: one row per step and CCD, read from the step records."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from blocks.nights import read_night
from blocks.site import Site
from deployments.cache_care import all_records
from imaging.io.tables import write_table

TIMINGS = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("ccd", pa.int16()),
        pa.field("finished_mjd", pa.float64(), nullable=False),
        pa.field("wall_s", pa.float32(), nullable=False),
        pa.field("cpu_s", pa.float32(), nullable=False),
        pa.field("peak_memory_mb", pa.float32(), nullable=False),
        pa.field("product_bytes", pa.int64(), nullable=False),
        pa.field("parts_cpu_s", pa.map_(pa.string(), pa.float32()), nullable=False),
    ]
)
"""Exposure number or ``night-YYYYMMDD``, step, CCD; when it ended, what it took, what it wrote; CPU seconds by part."""

MJD_OF_1970 = 40587.0


def timing_table(site: Site, night: int | None = None) -> pa.Table:
    """Return what every recorded step has cost, the earliest first.

    Parameters
    ----------
    site
        The site.
    night
        Only the exposures of this registered night, its templates and the night itself; None for everything.

    Raises
    ------
    InputError
        If the night is not registered.
    """
    subjects = None
    if night is not None:
        record = read_night(site, night).record
        subjects = {str(number) for number in (*record.exposures, *record.templates)} | {f"night-{night}"}
    rows: list[dict[str, Any]] = []
    for known in all_records(site):
        if known.result is None or (subjects is not None and known.subject not in subjects):
            continue
        rows.append(
            {
                "subject": known.subject,
                "step": known.step,
                "ccd": known.ccd,
                "finished_mjd": MJD_OF_1970 + known.path.stat().st_mtime / 86400.0,
                "wall_s": known.result.wall_s,
                "cpu_s": known.result.total_cpu_s,
                "peak_memory_mb": known.result.peak_memory_mb,
                "product_bytes": known.size,
                "parts_cpu_s": list(known.result.cpu_s.items()),
            }
        )
    rows.sort(key=lambda row: row["finished_mjd"])
    return pa.Table.from_pylist(rows, schema=TIMINGS)


def write_timings(site: Site, path: Path, night: int | None = None) -> pa.Table:
    """Write the table as Parquet and return it."""
    table = timing_table(site, night)
    write_table(path, table)
    return table

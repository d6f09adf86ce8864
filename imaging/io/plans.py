"""Write the plan of a night: a script for the telescope's queue (SISPI) and a table."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from imaging.exposure import MJD_EPOCH
from imaging.io.atomic import write_text
from imaging.planning.order import Observation


def write_queue_script(
    path: Path,
    observations: Sequence[Observation],
    exposures: Sequence[tuple[str, float]],
    *,
    event: str,
    proposal: str,
) -> None:
    """Write observations as a SISPI script, which the observers load into the telescope's queue.

    Parameters
    ----------
    path
        File to write.
    observations
        Fields in order of observation.
    exposures
        Band and exposure time, seconds, of each exposure of a field.
    event, proposal
        Name of the event and the proposal.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    rows = [
        {
            "count": 1,
            "expType": "object",
            "object": f"{event} field {observation.rank}",
            "RA": round(observation.field.ra_deg, 6),
            "dec": round(observation.field.dec_deg, 6),
            "filter": band,
            "exptime": exptime,
            "program": event,
            "propid": proposal,
            "seqid": f"{event} {number}",
            "seqnum": place,
            "seqtot": len(exposures),
            "wait": "False",
        }
        for number, observation in enumerate(observations, start=1)
        for place, (band, exptime) in enumerate(exposures, start=1)
    ]
    write_text(path, json.dumps(rows, indent=1) + "\n")


def write_plan_table(path: Path, observations: Sequence[Observation], bands: Sequence[str]) -> None:
    """Write the observations as comma-separated text, one line per field.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    own = [name for band in bands for name in (f"searchable_{band}", f"ccds_with_template_{band}")]
    table.writerow(["begin_utc", "rank", "ra_deg", "dec_deg", "airmass", "moon_deg", "probability", "n_ccds", *own])
    for item in observations:
        field = item.field
        values = [v for band in bands for v in (f"{field.searchable[band]:.6f}", field.n_covered[band])]
        table.writerow(
            [
                utc(item.mjd),
                item.rank,
                f"{field.ra_deg:.5f}",
                f"{field.dec_deg:.5f}",
                f"{item.airmass:.2f}",
                f"{item.moon_deg:.0f}",
                f"{field.probability:.6f}",
                field.n_ccds,
                *values,
            ]
        )
    write_text(path, buffer.getvalue())


def utc(mjd: float) -> str:
    """Return a time to the minute, ISO 8601."""
    return (MJD_EPOCH + timedelta(days=mjd) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%MZ")

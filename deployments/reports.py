"""Put together what is said of a night's candidates to others; nothing is sent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from blocks.site import Site
from imaging.candidates.reports import ReportSettings, alert_packet, skyportal_requests, tns_report
from imaging.errors import InputError
from imaging.io.images import read_planes
from imaging.io.packets import cutout_bytes
from imaging.io.tables import read_table
from tasks.rank import STAMPS, detection_image
from tasks.ranked_tables import RANKING
from tasks.records import FileRecord, StepJob

Form = Literal["avro", "skyportal", "tns"]

Photometry = Mapping[str, list[dict[str, Any]]]


def read_report_settings(path: Path | None) -> ReportSettings:
    """Read who reports from a JSON file; nobody without one.

    Raises
    ------
    InputError
        If it cannot be read or names something unknown.
    """
    if path is None:
        return ReportSettings()
    try:
        return ReportSettings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise InputError(
            f"the settings of the report cannot be read: {reason}",
            value=path,
            limit=", ".join(ReportSettings.model_fields),
        ) from error


def make_report(site: Site, night: int, chosen: pa.Table, form: Form, settings: ReportSettings) -> Any:  # noqa: ANN401
    """Make the report of some candidates.

    Parameters
    ----------
    site, night
        Where the night's products are.
    chosen
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    form
        For whom.
    settings
        Who reports.

    Returns
    -------
    report
        A list of packets, or a JSON document.

    Raises
    ------
    InputError
        If the settings lack something, or the night was not ranked.
    """
    job = StepJob(night=night, site=site)
    path = job.product_path(RANKING)
    if not path.is_file():
        raise InputError("night has not been ranked", value=path, remedy="process it with gw-workflow night")
    known = json.loads(path.read_text(encoding="utf-8"))
    event, rows = known["parameters"]["event"], chosen.to_pylist()
    photometry = _photometry(job, chosen)
    if form == "tns":
        return tns_report([(row, photometry[row["candidate_id"]]) for row in rows], event, settings)
    if form == "skyportal":
        made = [skyportal_requests(row, photometry[row["candidate_id"]], event, settings) for row in rows]
        return {"requests": [request for requests in made for request in requests]}
    cutouts = _cutouts(site, rows, known["stamps"])
    return [alert_packet(row, photometry[row["candidate_id"]], event, cutouts.get(row["candidate_id"])) for row in rows]


def _photometry(job: StepJob, chosen: pa.Table) -> Photometry:
    ids = chosen.column("candidate_id")
    table = read_table(job.product_path("lightcurves.parquet"))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ids.to_pylist()}
    for point in table.filter(pc.is_in(table.column("candidate_id"), value_set=ids.combine_chunks())).to_pylist():
        found[point["candidate_id"]].append(point)
    return found


def _cutouts(site: Site, rows: list[dict[str, Any]], stamps: Mapping[str, Any]) -> dict[str, dict[str, bytes]]:
    """Return the compressed stamps of the first detection of each candidate that has any."""
    wanted: dict[str, dict[int, str]] = {}
    for row in rows:
        for detection in row["detection_ids"] or ():
            wanted.setdefault(f"{STAMPS}{detection_image(detection)}", {})[detection] = row["candidate_id"]
    found: dict[str, dict[str, bytes]] = {}
    for name in sorted(wanted.keys() & stamps.keys()):
        path = site.path(FileRecord.model_validate(stamps[name]).path)
        planes = read_planes(path, ("SEARCH", "TEMPLATE", "DIFFERENCE", "ID"))[0] if path.exists() else {"ID": ()}
        for number, detection in enumerate(map(int, planes["ID"])):
            candidate = wanted[name].get(detection)
            if candidate is not None and candidate not in found:
                found[candidate] = {p: cutout_bytes(planes[p][number]) for p in planes if p != "ID"}
    return found

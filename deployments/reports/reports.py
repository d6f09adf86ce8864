"""Make the reports on a night's candidates for brokers, SkyPortal and the Transient Name Server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from blocks.site import Site
from imaging.candidates.reports import (
    ReportSettings,
    alert_packet,
    require_settings,
    skyportal_requests,
    tns_entry,
    tns_report,
)
from imaging.errors import InputError
from imaging.io.images import read_planes
from imaging.io.packets import cutout_bytes
from imaging.io.tables import read_table
from tasks.engine.jobs import FileRecord
from tasks.jobs import StepJob
from tasks.rank import STAMPS, detection_image
from tasks.ranked_tables import RANKING

Form = Literal["avro", "skyportal", "tns"]

Photometry = Mapping[str, list[dict[str, Any]]]


def read_report_settings(path: Path | None) -> ReportSettings:
    """Read reporter and groups from a JSON file; the defaults without one.

    Raises
    ------
    InputError
        If it cannot be read or has an unknown setting.
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


@dataclass(frozen=True)
class CandidateReport:
    """The report on one candidate.

    Attributes
    ----------
    candidate_id, ra, dec
        Name and position, degrees.
    content
        An alert packet, a list of requests, or an entry of a bulk report, depending on the form.
    """

    candidate_id: str
    ra: float
    dec: float
    content: Any


@dataclass(frozen=True)
class Report:
    """The report on a night's candidates in one form.

    Attributes
    ----------
    form
        ``avro``, ``skyportal`` or ``tns``.
    entries
        Reports by candidate.
    left_out
        Candidates that cannot be reported, with the reason.
    """

    form: Form
    entries: tuple[CandidateReport, ...]
    left_out: Mapping[str, str]

    def document(self) -> Any:  # noqa: ANN401
        """Return the whole report: a list of packets, or a JSON document."""
        contents = [item.content for item in self.entries]
        if self.form == "tns":
            return tns_report(contents)
        if self.form == "skyportal":
            return {"requests": [request for requests in contents for request in requests]}
        return contents


def make_report(site: Site, night: int, chosen: pa.Table, form: Form, settings: ReportSettings) -> Report:
    """Make the report of some candidates.

    Parameters
    ----------
    site, night
        Site and night.
    chosen
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    form
        ``avro``, ``skyportal`` or ``tns``.
    settings
        Reporter and groups.

    Raises
    ------
    InputError
        If a setting is missing, the night was not ranked, or no candidate can be reported.
    """
    job = StepJob(night=night, site=site)
    path = job.product_path(RANKING)
    if not path.is_file():
        raise InputError("night has not been ranked", value=path, remedy="process it with gw-workflow night")
    require_settings(form, settings)
    known = json.loads(path.read_text(encoding="utf-8"))
    event, rows = known["parameters"]["event"], chosen.to_pylist()
    photometry = _photometry(job, chosen)
    cutouts = _cutouts(site, rows, known["stamps"]) if form == "avro" else {}
    entries, left_out = [], {}
    for row in rows:
        name = row["candidate_id"]
        try:
            content = _content(form, row, photometry[name], event, settings, cutouts.get(name))
        except InputError as error:
            left_out[name] = error.sentence()
            continue
        entries.append(CandidateReport(name, row["ra"], row["dec"], content))
    if not entries:
        raise InputError(f"nothing can be reported: {next(iter(left_out.values()))}", value=f"{len(rows)} candidates")
    return Report(form, tuple(entries), left_out)


def _content(
    form: Form,
    row: Mapping[str, Any],
    points: list[dict[str, Any]],
    event: str,
    settings: ReportSettings,
    cutouts: Mapping[str, bytes] | None,
) -> Any:  # noqa: ANN401
    if form == "tns":
        return tns_entry(row, points, event, settings)
    if form == "skyportal":
        return skyportal_requests(row, points, event, settings)
    return alert_packet(row, points, event, cutouts)


def _photometry(job: StepJob, chosen: pa.Table) -> Photometry:
    ids = chosen.column("candidate_id")
    table = read_table(job.product_path("lightcurves.parquet"))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ids.to_pylist()}
    for point in table.filter(pc.is_in(table.column("candidate_id"), value_set=ids.combine_chunks())).to_pylist():
        found[point["candidate_id"]].append(point)
    return found


def _cutouts(site: Site, rows: list[dict[str, Any]], stamps: Mapping[str, Any]) -> dict[str, dict[str, bytes]]:
    """Return the compressed stamps of each candidate's first detection that has some."""
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

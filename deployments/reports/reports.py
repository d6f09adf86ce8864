"""Make the reports on a night's candidates for brokers, SkyPortal and the Transient Name Server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from blocks.site import Site
from deployments.reports.charts import candidate_chart
from deployments.reports.evidence import gather
from imaging.candidates.packets import PACKETS
from imaging.candidates.reports import Evidence, ReportSettings, Row, require_settings
from imaging.candidates.skyportal import skyportal_requests
from imaging.candidates.tns import tns_entry, tns_reports
from imaging.errors import InputError
from imaging.io.damage import reading

Form = Literal["avro", "ztf", "skyportal", "tns"]

TNS = "tns"
"""Name of the reference catalogue with the sources that were reported to the Transient Name Server."""


def read_report_settings(path: Path | None) -> ReportSettings:
    """Read reporter and groups from a JSON file; the defaults without one.

    Raises
    ------
    InputError
        If it cannot be read or has an unknown setting.
    """
    if path is None:
        return ReportSettings()
    known = ", ".join(ReportSettings.model_fields)
    with reading(path, "the settings of the report cannot be read", "correct the file", limit=known):
        return ReportSettings.model_validate_json(path.read_bytes())


@dataclass(frozen=True)
class CandidateReport:
    """The report on one candidate.

    Attributes
    ----------
    candidate_id, ra, dec
        Name and position, degrees.
    content
        An alert packet, a list of requests, or an entry of a bulk report, depending on the form.
    chart
        Draws the finding chart, a PNG picture; None if the form has none. It returns None if the image is missing.
    """

    candidate_id: str
    ra: float
    dec: float
    content: Any
    chart: Callable[[], bytes | None] | None = None


@dataclass(frozen=True)
class Report:
    """The report on a night's candidates in one form.

    Attributes
    ----------
    form
        ``avro`` or ``ztf`` (alert packets), ``skyportal``, ``tns``.
    entries
        Reports by candidate.
    left_out
        Candidates that cannot be reported, with the reason.
    """

    form: Form
    entries: tuple[CandidateReport, ...]
    left_out: Mapping[str, str]

    def documents(self) -> list[Any]:
        """Return the whole report: lists of packets, or JSON documents; several if the TNS takes no longer ones."""
        contents = [item.content for item in self.entries]
        if self.form == "tns":
            return tns_reports(contents)
        if self.form == "skyportal":
            return [{"requests": [request for requests in contents for request in requests]}]
        return [contents]


def make_report(site: Site, night: int, chosen: pa.Table, form: Form, settings: ReportSettings) -> Report:
    """Make the report of some candidates.

    Parameters
    ----------
    site, night
        Site and night.
    chosen
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    form
        ``avro``, ``ztf``, ``skyportal`` or ``tns``.
    settings
        Reporter and groups.

    Raises
    ------
    InputError
        If a setting is missing, the night was not ranked, or no candidate can be reported.
    """
    require_settings(form, settings)
    evidence = gather(site, night, chosen)
    entries, left_out = [], {}
    for row in chosen.to_pylist():
        name = row["candidate_id"]
        known = _known(row) if form == "tns" else ""
        if known:
            left_out[name] = known
            continue
        try:
            content = _content(form, row, evidence[name], settings)
        except InputError as error:
            left_out[name] = error.sentence()
            continue
        chart = partial(candidate_chart, site, row, evidence[name].detection_id) if form == "tns" else None
        entries.append(CandidateReport(name, row["ra"], row["dec"], content, chart))
    if not entries:
        raise InputError(
            f"nothing can be reported: {next(iter(left_out.values()))}", value=f"{chosen.num_rows} candidates"
        )
    return Report(form, tuple(entries), left_out)


def _known(row: Row) -> str:
    """Return why a candidate is no discovery for the Transient Name Server; empty if it may be one."""
    if row.get("reported_in") == TNS:
        return f"reported to the TNS already as {row['reported_as']}"
    if row.get("minor_planet"):
        return f"the minor planet {row['minor_planet']}"
    return ""


def _content(form: Form, row: Row, evidence: Evidence, settings: ReportSettings) -> Any:  # noqa: ANN401
    if form == "tns":
        return tns_entry(row, evidence, settings)
    if form == "skyportal":
        return skyportal_requests(row, evidence, settings)
    make, _ = PACKETS[form]
    return make(row, evidence)

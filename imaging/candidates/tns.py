"""Bulk reports of candidates for the Transient Name Server (TNS).

Formats: the bulk-report manual of the TNS and its second version (TNS 2.0), which renames fields. The numbers of DECam,
its filters, the kinds of objects and the archives are those of the TNS's tables of values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imaging.candidates.naming import candidate_ids
from imaging.candidates.reports import (
    TEMPLATE,
    Evidence,
    ReportSettings,
    Row,
    is_detection,
    moment,
    require_detections,
    require_settings,
)
from imaging.candidates.words import flags_in_words
from imaging.schemas.candidates import CandidateFlag

DECAM = "172"
OTHER_FILTER = "0"
FILTERS = {"u": "20", "g": "21", "r": "22", "i": "23", "z": "24", "Y": "81"}
AB_MAG = "1"
OTHER_ARCHIVE = "0"
POSSIBLE_SUPERNOVA, NUCLEAR = "1", "4"

MAX_POINTS, MAX_ENTRIES = 10, 100
"""Limits of the TNS: points of photometry in an entry, and entries in a report."""

RENAMED = {
    "reporting_group_id": "reporting_groupid",
    "discovery_data_source_id": "data_source_groupid",
    "flux_units": "flux_unitid",
    "filter_value": "filterid",
    "instrument_value": "instrumentid",
}
"""Fields that TNS 2.0 renames."""

DROPPED = ("proprietary_period_groups", "proprietary_period")
"""Fields that TNS 2.0 does not have."""


def tns_reports(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Combine entries of :func:`tns_entry` into bulk reports of at most :data:`MAX_ENTRIES` each."""
    parts = [entries[start : start + MAX_ENTRIES] for start in range(0, len(entries), MAX_ENTRIES)]
    return [{"at_report": {str(number): entry for number, entry in enumerate(part)}} for part in parts]


def with_chart(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an entry that refers to a finding chart, by the name under which the TNS keeps the uploaded file."""
    chart = {"related_file_name": name, "related_file_comments": "finding chart"}
    return {**entry, "related_files": {"0": chart}}


def tns_entry(row: Row, evidence: Evidence, settings: ReportSettings) -> dict[str, Any]:
    """Return the entry of one candidate in a TNS bulk report.

    The discovery is the first detection in a search difference. Of the detections, the discovery and the most
    significant others are reported.

    Parameters
    ----------
    row
        Row of :data:`imaging.schemas.candidates.CANDIDATES`.
    evidence
        Its photometry, event and host.
    settings
        Reporter, groups, names of the fields.

    Raises
    ------
    InputError
        If the settings lack reporter or group, or the candidate has no photometry above five sigma.
    """
    require_settings("tns", settings)
    discovery, *others = require_detections(row, evidence)
    best = sorted(others, key=lambda p: p["flux_error"] / p["flux"])[: MAX_POINTS - 1]
    told = [discovery, *(point for point in others if point in best)]
    flags = int(row["flags"] or 0)
    words = "; ".join(flags_in_words(flags))
    group = str(settings.tns_group_id)
    error = f"{row['position_error_arcsec']:.2f}"
    entry = {
        "ra": {"value": f"{row['ra']:.7f}", "error": error, "units": "arcsec"},
        "dec": {"value": f"{row['dec']:.7f}", "error": error, "units": "arcsec"},
        "reporting_group_id": group,
        "discovery_data_source_id": str(settings.tns_data_source_id or group),
        "reporter": settings.reporter,
        "discovery_datetime": moment(discovery["mjd"]).replace("T", " "),
        "at_type": NUCLEAR if flags & CandidateFlag.NUCLEAR else POSSIBLE_SUPERNOVA,
        "host_name": _host_name(row),
        "host_redshift": "" if evidence.host_redshift is None else f"{evidence.host_redshift:.5f}",
        "transient_redshift": "",
        "internal_name": row["candidate_id"],
        "remarks": f"found in the follow-up of {evidence.event}" + (f"; {words}" if words else ""),
        "proprietary_period_groups": [group],
        "proprietary_period": {"proprietary_period_value": "0", "proprietary_period_units": "days"},
        "non_detection": _non_detection(_deepest_limit(evidence, discovery, settings.tns_limit_days)),
        "photometry": {"photometry_group": {str(n): _point(point) for n, point in enumerate(told)}},
    }
    return entry if settings.tns_fields == "1.0" else _second_version(entry)


def _host_name(row: Row) -> str:
    """Return the host's designation from its position, as for galaxies without a name; empty without a host."""
    if row["host_ra"] is None:
        return ""
    return candidate_ids(np.array([row["host_ra"]]), np.array([row["host_dec"]]))[0].removeprefix("GW")


def _deepest_limit(evidence: Evidence, discovery: Row, days: float) -> Row | None:
    """Return the point with the deepest limit before the discovery, fainter than the discovery; None if there is none.

    The limits are five sigma of the flux at the candidate's position.
    """
    start, end = discovery["mjd"] - days, discovery["mjd"]
    limits = [
        point
        for point in evidence.points()
        if start <= point["mjd"] < end
        and not is_detection(point)
        and point["flux"] < 3.0 * point["flux_error"]
        and point["limit_mag"] is not None
        and math.isfinite(point["limit_mag"])
        and point["limit_mag"] > discovery["mag"]
    ]
    return max(limits, key=lambda point: point["limit_mag"], default=None)


def _point(point: Row) -> dict[str, str]:
    return _observation(point) | {"flux": f"{point['mag']:.3f}", "flux_error": f"{point['mag_error']:.3f}"}


def _observation(point: Row) -> dict[str, str]:
    """Return what detections and limits share."""
    band, exptime = point["band"], point["exptime_s"]
    where = f"exposure {point['expnum']} CCD {point['ccd']}"
    comment = (
        f"{where}, relative to the mean of the templates" if point["side"] == TEMPLATE else f"difference image, {where}"
    )
    return {
        "obsdate": moment(point["mjd"]).replace("T", " "),
        "limiting_flux": f"{point['limit_mag']:.2f}",
        "flux_units": AB_MAG,
        "filter_value": FILTERS.get(band, OTHER_FILTER),
        "instrument_value": DECAM,
        "exptime": "" if exptime is None else f"{exptime:g}",
        "observer": "",
        "comments": comment if band in FILTERS else f"{comment}, filter {band}",
    }


def _non_detection(point: Row | None) -> dict[str, str]:
    if point is None:
        remark = "not in earlier DECam exposures that serve as templates"
        return {"archiveid": OTHER_ARCHIVE, "archival_remarks": remark}
    return _observation(point)


def _second_version(node: Any) -> Any:  # noqa: ANN401
    """Return an entry, or a part of one, with the field names of TNS 2.0."""
    if not isinstance(node, dict):
        return node
    node = node.get("photometry_group", node)
    return {RENAMED.get(name, name): _second_version(value) for name, value in node.items() if name not in DROPPED}

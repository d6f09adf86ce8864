"""Requests that post a candidate to a SkyPortal instance: candidate, photometry, annotation, thumbnails.

Format: the request bodies of SkyPortal's handlers. This module sends nothing.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

from imaging.candidates.reports import SEARCH, Evidence, ReportSettings, Row, moment, require_settings
from imaging.errors import InputError
from imaging.schemas.fields import NO_ID

MICROJANSKY_ZEROPOINT = 23.9
"""AB magnitude of one microjansky, the unit of SkyPortal fluxes."""

THUMBNAILS = {"new": "SEARCH", "ref": "TEMPLATE", "sub": "DIFFERENCE"}
"""Type of a thumbnail, and the plane of the stamps that it shows."""

NOT_ANNOTATED = ("detection_ids", "expnums", "templates")

EXACT_INTEGER = 2**53
"""Integers from here on are sent as text: browsers read JSON numbers as doubles."""


def skyportal_requests(row: Row, evidence: Evidence, settings: ReportSettings) -> list[dict[str, Any]]:
    """Return the HTTP requests that post a candidate to a SkyPortal instance, in order.

    Only search differences are sent as photometry.

    Parameters
    ----------
    row
        Row of :data:`imaging.schemas.candidates.CANDIDATES`.
    evidence
        Its photometry, event and thumbnails.
    settings
        Identifiers in the instance.

    Returns
    -------
    requests
        ``method``, ``path`` relative to the instance's address, and ``json``: candidate, photometry, annotation and, if
        there are stamps, three thumbnails. An annotation that the instance has of this origin is to be replaced
        (``PUT`` to its number), because a second one is refused.

    Raises
    ------
    InputError
        If the settings lack the filters, groups or instrument, or the candidate has no photometry.
    """
    require_settings("skyportal", settings)
    identity, origin = row["candidate_id"], f"gw-workflow:{evidence.event}"
    points = evidence.points(SEARCH)
    if not points:
        raise InputError(
            "candidate cannot be reported: it has no photometry", value=identity, remedy="leave it out with --where"
        )
    groups = list(settings.skyportal_group_ids)
    candidate = _candidate(row, origin, settings)
    fluxes = {"obj_id": identity, "group_ids": groups, "origin": origin} | _fluxes(points, settings)
    annotation = {"origin": origin, "data": _annotated(row), "group_ids": groups}
    requests = [
        ("POST", "/api/candidates", candidate),
        ("PUT", "/api/photometry", fluxes),
        ("POST", f"/api/sources/{identity}/annotations", annotation),
    ]
    for kind, plane in THUMBNAILS.items():
        if plane in evidence.thumbnails:
            data = base64.b64encode(evidence.thumbnails[plane]).decode()
            requests.append(("POST", "/api/thumbnail", {"obj_id": identity, "data": data, "ttype": kind}))
    return [{"method": method, "path": path, "json": content} for method, path, content in requests]


def _candidate(row: Row, origin: str, settings: ReportSettings) -> dict[str, Any]:
    return {
        "id": row["candidate_id"],
        "ra": row["ra"],
        "dec": row["dec"],
        "filter_ids": list(settings.skyportal_filter_ids),
        "passed_at": moment(row["mjd_last"]),
        "passing_alert_id": (row["detection_ids"] or [None])[0],
        "origin": origin,
        "score": row["real_score"],
    }


def _fluxes(points: Sequence[Row], settings: ReportSettings) -> dict[str, Any]:
    return {
        "instrument_id": settings.skyportal_instrument_id,
        "mjd": [p["mjd"] for p in points],
        "filter": [settings.skyportal_bandpasses[p["band"]] for p in points],
        "flux": [p["flux"] / 1e3 for p in points],
        "fluxerr": [p["flux_error"] / 1e3 for p in points],
        "zp": MICROJANSKY_ZEROPOINT,
        "magsys": "ab",
        "altdata": [
            {"band": p["band"], "expnum": p["expnum"], "ccd": p["ccd"], "exptime": p["exptime_s"]} for p in points
        ],
    }


def _annotated(row: Row) -> dict[str, Any]:
    """Return the known values of a row that JSON and browsers hold exactly."""
    kept = {}
    for name, value in row.items():
        known = value is not None and (not isinstance(value, float) or math.isfinite(value))
        if name in NOT_ANNOTATED or not known or (name == "gaia_source_id" and value == NO_ID):
            continue
        kept[name] = str(value) if isinstance(value, int) and abs(value) >= EXACT_INTEGER else value
    return kept

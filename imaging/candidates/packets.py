"""Alert packets of candidates in two Avro schemas: our own, and one with the fields that clients of ZTF read.

Both have the structure of ZTF's packets (Masci et al. 2019, PASP 131, 018003): ``objectId``, ``candid``,
``candidate``, ``prv_candidates`` and three cutouts. Ours holds every column of the list and the forced photometry in
all exposures. The other has names, units and types of ZTF's schema: ``jd``, ``fid``, ``magpsf``, ``rb``, ``isdiffpos``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from imaging.candidates.reports import SEARCH, Evidence, Row, in_order, require_detections
from imaging.errors import InputError
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.schemas.fields import TEXT, field

PACKET_VERSION = "1.2"
NAMESPACE, ZTF_NAMESPACE = "gw_workflow.alert", "gw_workflow.ztf_alert"
PUBLISHER = "gw-workflow"
CUTOUTS = {"cutoutScience": "SEARCH", "cutoutTemplate": "TEMPLATE", "cutoutDifference": "DIFFERENCE"}
"""Cutouts of a packet, and the planes of the stamps that they hold."""

PHOTOMETRY = pa.schema(
    [
        *FORCED_PHOTOMETRY,
        field("side", TEXT, "", "search: in a search difference; template: of a template, relative to their mean"),
    ]
)
"""Columns of a photometric point in a packet."""

FILTER_NUMBERS = {"g": 1, "r": 2, "i": 3, "z": 4, "Y": 5, "u": 6, "VR": 7}
"""``fid``: 1 to 3 as in ZTF, then the bands that ZTF does not have."""

MJD_TO_JD = 2400000.5

_ZTF_POINT = (
    ("jd", "double", "Julian date of the start of the exposure, UTC; of its middle if exptime is null [d]"),
    ("fid", "int", "filter: 1 g, 2 r, 3 i as in ZTF, 4 z, 5 Y, 6 u, 7 VR"),
    ("pid", "long", "exposure number"),
    ("diffmaglim", ["null", "float"], "five-sigma limit at the position [mag, AB]"),
    ("candid", ["null", "long"], "identifier of the detection; null if not detected in this exposure"),
    ("isdiffpos", ["null", "string"], "t: brighter than the template, f: fainter"),
    ("ra", "double", "right ascension, ICRS [deg]"),
    ("dec", "double", "declination, ICRS [deg]"),
    ("magpsf", ["null", "float"], "magnitude of the absolute PSF flux in the difference [mag, AB]"),
    ("sigmapsf", ["null", "float"], "error of magpsf [mag]"),
    ("band", "string", "name of the band"),
    ("exptime", ["null", "float"], "exposure time [s]"),
)

_ZTF_CANDIDATE = (
    ("programid", "int", "0: not a programme of ZTF"),
    ("rb", ["null", "float"], "highest real/bogus score of the candidate, 0 to 1"),
    ("ndethist", "int", "detections above five sigma in search differences"),
    ("ncovhist", "int", "search exposures that cover the position"),
    ("jdstarthist", "double", "first of these detections, Julian date [d]"),
    ("jdendhist", "double", "last of these detections, Julian date [d]"),
    ("neargaia", ["null", "float"], "separation from the nearest Gaia star [arcsec]; null if none within 2 arcsec"),
    ("maggaia", ["null", "float"], "G magnitude of that star [mag]"),
    ("rank", ["null", "int"], "rank in the list of the night, 1 is best"),
)


def packet_schema() -> dict[str, Any]:
    """Return the Avro schema of an alert packet: a candidate, its light curve and its cutouts."""
    return _alert(
        NAMESPACE,
        "One candidate of one night",
        "identifier of the detection of the cutouts, or of the first one",
        [{"name": "event", "type": "string", "doc": "name of the gravitational-wave event that was followed up"}],
        _record("candidate", CANDIDATES),
        {"type": "array", "items": _record("photometry", PHOTOMETRY)},
        "forced photometry in all exposures, in order of time",
    )


def ztf_schema() -> dict[str, Any]:
    """Return the Avro schema of a packet with ZTF's field names."""

    def record(name: str, columns: tuple[tuple[str, Any, str], ...]) -> dict[str, Any]:
        return {
            "type": "record",
            "name": name,
            "fields": [
                {"name": column, "type": kind, "doc": doc} | ({"default": None} if isinstance(kind, list) else {})
                for column, kind, doc in columns
            ],
        }

    return _alert(
        ZTF_NAMESPACE,
        "One candidate of one night, with the field names of ZTF",
        "identifier of the detection of candidate and cutouts",
        [],
        record("candidate", (*_ZTF_POINT, *_ZTF_CANDIDATE)),
        ["null", {"type": "array", "items": record("prv_candidate", _ZTF_POINT)}],
        "all other search exposures, in order of time",
    )


def _alert(
    namespace: str,
    doc: str,
    candid: str,
    more: list[dict[str, Any]],
    candidate: dict[str, Any],
    earlier: dict[str, Any] | list[Any],
    about: str,
) -> dict[str, Any]:
    """Return the schema of a packet of either kind."""
    cutout = {
        "type": "record",
        "name": "cutout",
        "fields": [
            {"name": "fileName", "type": "string"},
            {"name": "stampData", "type": "bytes", "doc": "gzip-compressed FITS image with a celestial WCS"},
        ],
    }
    return {
        "type": "record",
        "name": "alert",
        "namespace": namespace,
        "doc": doc,
        "fields": [
            {"name": "schemavsn", "type": "string", "doc": "version of this schema"},
            {"name": "publisher", "type": "string"},
            {"name": "objectId", "type": "string", "doc": "name from the position"},
            {"name": "candid", "type": "long", "doc": candid},
            *more,
            {"name": "candidate", "type": candidate},
            {"name": "prv_candidates", "type": earlier, "doc": about},
            *(
                {"name": name, "type": ["null", cutout if number == 0 else "cutout"], "default": None}
                for number, name in enumerate(CUTOUTS)
            ),
        ],
    }


def _record(name: str, schema: pa.Schema) -> dict[str, Any]:
    fields = []
    for column in schema:
        metadata = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
        unit = f" [{metadata['unit']}]" if metadata.get("unit") else ""
        about = {"name": column.name, "type": ["null", _avro_type(column.type)], "default": None}
        fields.append(about | {"doc": metadata.get("meaning", "") + unit})
    return {"type": "record", "name": name, "fields": fields}


def _avro_type(kind: pa.DataType) -> Any:  # noqa: ANN401
    if pa.types.is_list(kind):
        return {"type": "array", "items": _avro_type(kind.value_type)}
    names = {pa.float32(): "float", pa.float64(): "double", pa.string(): "string", pa.bool_(): "boolean"}
    return names.get(kind, "long" if kind == pa.int64() else "int")


def alert_packet(row: Row, evidence: Evidence) -> dict[str, Any]:
    """Return a candidate as an alert packet of :func:`packet_schema`.

    Parameters
    ----------
    row
        Row of :data:`imaging.schemas.candidates.CANDIDATES`.
    evidence
        Its photometry, event and cutouts.
    """
    return _head(row, evidence) | {
        "event": evidence.event,
        "candidate": {name: row[name] for name in CANDIDATES.names},
        "prv_candidates": [{name: p[name] for name in PHOTOMETRY.names} for p in in_order(evidence.photometry)],
    }


def ztf_packet(row: Row, evidence: Evidence) -> dict[str, Any]:
    """Return a candidate as a packet of :func:`ztf_schema`.

    ``candidate`` is the detection of the cutouts, or the last one; ``prv_candidates`` are the other search exposures.

    Parameters
    ----------
    row
        Row of :data:`imaging.schemas.candidates.CANDIDATES`.
    evidence
        Its photometry and cutouts.

    Raises
    ------
    InputError
        If the candidate has no photometry above five sigma in a search difference.
    """
    seen = require_detections(row, evidence)
    detections = {detection // 10_000_000: detection for detection in row["detection_ids"] or ()}
    head = _head(row, evidence)
    known = [point for point in seen if point["expnum"] in detections]
    if not known:
        raise InputError(
            "candidate cannot be an alert: no detection is above five sigma in forced photometry",
            value=row["candidate_id"],
            remedy="leave it out with --where",
        )
    now = next((point for point in known if detections[point["expnum"]] == evidence.detection_id), None)
    if now is None:  # the detection of the cutouts is not significant in forced photometry
        now = known[-1]
        head |= dict.fromkeys(CUTOUTS)
    head["candid"] = detections[now["expnum"]]
    points = evidence.points(SEARCH)
    candidate = _ztf_point(row, now, detections) | {
        "programid": 0,
        "rb": row["real_score"],
        "ndethist": len(seen),
        "ncovhist": len(points),
        "jdstarthist": _start_jd(seen[0]),
        "jdendhist": _start_jd(seen[-1]),
        "neargaia": row["gaia_separation_arcsec"],
        "maggaia": row["gaia_g_mag"],
        "rank": row["rank"],
    }
    others = [_ztf_point(row, point, detections) for point in points if point is not now]
    return head | {"candidate": candidate, "prv_candidates": others or None}


def _ztf_point(row: Row, point: Row, detections: Mapping[int, int]) -> dict[str, Any]:
    positive = point["flux"] > 0
    detection = detections.get(point["expnum"])
    shown = detection is not None and point["mag"] is not None
    return {
        "jd": _start_jd(point),
        "fid": FILTER_NUMBERS[point["band"]],
        "pid": point["expnum"],
        "diffmaglim": point["limit_mag"],
        "candid": detection if shown else None,
        "isdiffpos": ("t" if positive else "f") if shown else None,
        "ra": row["ra"],
        "dec": row["dec"],
        "magpsf": point["mag"] if shown else None,
        "sigmapsf": point["mag_error"] if shown else None,
        "band": point["band"],
        "exptime": point["exptime_s"],
    }


def _start_jd(point: Row) -> float:
    """Return the Julian date of an exposure's start, which is ZTF's time; of its middle if the length is unknown."""
    return float(point["mjd"]) + MJD_TO_JD - (point["exptime_s"] or 0.0) / 2.0 / 86400.0


def _head(row: Row, evidence: Evidence) -> dict[str, Any]:
    """Return what both kinds of packets share: version, names and cutouts."""
    packet: dict[str, Any] = {
        "schemavsn": PACKET_VERSION,
        "publisher": PUBLISHER,
        "objectId": row["candidate_id"],
        "candid": evidence.detection_id or (row["detection_ids"] or [0])[0],
    }
    for name, plane in CUTOUTS.items():
        data = evidence.cutouts.get(plane)
        file = f"{row['candidate_id']}_{plane.lower()}.fits.gz"
        packet[name] = None if data is None else {"fileName": file, "stampData": data}
    return packet


PACKETS: dict[str, tuple[Callable[[Row, Evidence], dict[str, Any]], Callable[[], dict[str, Any]]]] = {
    "avro": (alert_packet, packet_schema),
    "ztf": (ztf_packet, ztf_schema),
}
"""Form of a report to the function that makes a packet, and to that of its schema."""

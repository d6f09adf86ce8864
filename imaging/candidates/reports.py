"""Candidate reports for other systems: Avro alert packets, SkyPortal requests, TNS bulk reports.

This module only builds the documents and sends nothing. Formats: Masci et al. 2019 (PASP 131, 018003) for the alert
packets, which follow ZTF's; the API reference of SkyPortal; the bulk-report manual of the Transient Name Server. The
TNS numbers of DECam and its filters are those of its tables of values.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
from pydantic import Field

from imaging.candidates.words import flags_in_words
from imaging.errors import InputError
from imaging.exposure import MJD_EPOCH
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.settings import Settings

Row = Mapping[str, Any]

PACKET_VERSION = "1.0"
NAMESPACE = "gw_workflow.alert"
CUTOUTS = {"cutoutScience": "SEARCH", "cutoutTemplate": "TEMPLATE", "cutoutDifference": "DIFFERENCE"}
"""Cutouts of a packet, and the planes of the stamps that they hold."""

TNS_DECAM = "172"
TNS_FILTERS = {"u": "20", "g": "21", "r": "22", "i": "23", "z": "24", "Y": "81"}
TNS_AB_MAG = "1"
TNS_OTHER_ARCHIVE = "0"

MICROJANSKY_ZEROPOINT = 23.9
"""AB magnitude of one microjansky, the unit of SkyPortal fluxes."""

MIN_SNR = 5.0
"""Lowest signal to noise of a detection in a report."""

REQUIRED = {
    "tns": ("reporter", "tns_group_id"),
    "skyportal": ("skyportal_filter_ids", "skyportal_group_ids", "skyportal_instrument_id"),
}
"""Required settings of each report."""


class ReportSettings(Settings):
    """Reporter, groups and identifiers in SkyPortal and the TNS."""

    reporter: str = ""
    """Authors of a TNS report, as cited."""

    tns_group_id: int | None = None
    """Number of the reporting group at the TNS."""

    tns_data_source_id: int | None = None
    """Number of the group that owns the data; None for the reporting group."""

    skyportal_filter_ids: tuple[int, ...] = ()
    """Numbers of the SkyPortal filters that the candidates passed."""

    skyportal_group_ids: tuple[int, ...] = ()
    """Numbers of the SkyPortal groups with access to photometry and annotations."""

    skyportal_instrument_id: int = Field(default=0, ge=0)
    """Number of the instrument DECam in the SkyPortal instance; 0 if not set."""


def packet_schema() -> dict[str, Any]:
    """Return the Avro schema of an alert packet: a candidate, its light curve and its cutouts."""
    cutout = {
        "type": "record",
        "name": "cutout",
        "fields": [
            {"name": "fileName", "type": "string"},
            {"name": "stampData", "type": "bytes", "doc": "gzip-compressed FITS image"},
        ],
    }
    return {
        "type": "record",
        "name": "alert",
        "namespace": NAMESPACE,
        "doc": "One candidate of one night",
        "fields": [
            {"name": "schemavsn", "type": "string", "doc": "version of this schema"},
            {"name": "publisher", "type": "string"},
            {"name": "objectId", "type": "string", "doc": "name from the position"},
            {"name": "candid", "type": "long", "doc": "identifier of the first detection"},
            {"name": "event", "type": "string", "doc": "name of the gravitational-wave event that was followed up"},
            {"name": "candidate", "type": _record("candidate", CANDIDATES)},
            {
                "name": "prv_candidates",
                "type": {"type": "array", "items": _record("photometry", FORCED_PHOTOMETRY)},
                "doc": "forced photometry in all exposures, in order of time",
            },
            *(
                {"name": name, "type": ["null", cutout if number == 0 else "cutout"], "default": None}
                for number, name in enumerate(CUTOUTS)
            ),
        ],
    }


def _record(name: str, schema: pa.Schema) -> dict[str, Any]:
    fields = []
    for field in schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        unit = f" [{metadata['unit']}]" if metadata.get("unit") else ""
        about = {"name": field.name, "type": ["null", _avro_type(field.type)], "default": None}
        fields.append(about | {"doc": metadata.get("meaning", "") + unit})
    return {"type": "record", "name": name, "fields": fields}


def _avro_type(kind: pa.DataType) -> Any:  # noqa: ANN401
    if pa.types.is_list(kind):
        return {"type": "array", "items": _avro_type(kind.value_type)}
    names = {pa.float32(): "float", pa.float64(): "double", pa.string(): "string", pa.bool_(): "boolean"}
    return names.get(kind, "long" if kind == pa.int64() else "int")


def alert_packet(
    row: Row, photometry: Sequence[Row], event: str, cutouts: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """Return a candidate as an alert packet of :func:`packet_schema`.

    Parameters
    ----------
    row
        Row of :data:`imaging.schemas.candidates.CANDIDATES`.
    photometry
        Its rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`.
    event
        Name of the event that was followed up.
    cutouts
        Plane (``SEARCH``, ``TEMPLATE``, ``DIFFERENCE``) to the compressed image of its first detection with stamps.
    """
    packet: dict[str, Any] = {
        "schemavsn": PACKET_VERSION,
        "publisher": "gw-workflow",
        "objectId": row["candidate_id"],
        "candid": (row["detection_ids"] or [0])[0],
        "event": event,
        "candidate": {name: row[name] for name in CANDIDATES.names},
        "prv_candidates": [{n: p[n] for n in FORCED_PHOTOMETRY.names} for p in in_order(photometry)],
    }
    for name, plane in CUTOUTS.items():
        data = (cutouts or {}).get(plane)
        file = f"{row['candidate_id']}_{plane.lower()}.fits.gz"
        packet[name] = None if data is None else {"fileName": file, "stampData": data}
    return packet


def skyportal_requests(
    row: Row, photometry: Sequence[Row], event: str, settings: ReportSettings
) -> list[dict[str, Any]]:
    """Return the HTTP requests that post a candidate to a SkyPortal instance, in order.

    Parameters
    ----------
    row, photometry, event
        As for :func:`alert_packet`.
    settings
        Identifiers in the instance.

    Returns
    -------
    requests
        ``method``, ``path`` relative to the instance's address, and ``json``: candidate, photometry, annotation.

    Raises
    ------
    InputError
        If the settings lack the filters, groups or instrument.
    """
    require_settings("skyportal", settings)
    identity, origin = row["candidate_id"], f"gw-workflow:{event}"
    points = [p for p in in_order(photometry) if _usable(p)]
    groups = list(settings.skyportal_group_ids)
    candidate = {
        "id": identity,
        "ra": row["ra"],
        "dec": row["dec"],
        "filter_ids": list(settings.skyportal_filter_ids),
        "passed_at": moment(row["mjd_last"]),
        "passing_alert_id": (row["detection_ids"] or [0])[0],
        "origin": origin,
        "score": row["real_score"],
    }
    fluxes = {
        "obj_id": identity,
        "instrument_id": settings.skyportal_instrument_id,
        "group_ids": groups,
        "mjd": [p["mjd"] for p in points],
        "filter": [f"des{p['band'].lower()}" for p in points],
        "flux": [p["flux"] / 1e3 for p in points],
        "fluxerr": [p["flux_error"] / 1e3 for p in points],
        "zp": MICROJANSKY_ZEROPOINT,
        "magsys": "ab",
        "origin": origin,
    }
    kept = {n: v for n, v in row.items() if v is not None and n not in ("detection_ids", "expnums", "templates")}
    annotation = {"origin": origin, "data": kept, "group_ids": groups}
    return [
        {"method": "POST", "path": "/api/candidates", "json": candidate},
        {"method": "PUT", "path": "/api/photometry", "json": fluxes},
        {"method": "POST", "path": f"/api/sources/{identity}/annotations", "json": annotation},
    ]


def tns_report(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine entries of :func:`tns_entry` into a TNS bulk report of astronomical transients."""
    return {"at_report": {str(number): entry for number, entry in enumerate(entries)}}


def tns_entry(row: Row, photometry: Sequence[Row], event: str, settings: ReportSettings) -> dict[str, Any]:
    """Return the entry of one candidate in a TNS bulk report.

    Parameters
    ----------
    row, photometry
        As for :func:`alert_packet`.
    event
        Name of the event, for the remarks.
    settings
        Reporter and groups.

    Raises
    ------
    InputError
        If the settings lack reporter or group, or the candidate has no photometry above five sigma.
    """
    require_settings("tns", settings)
    points = [p for p in in_order(photometry) if _usable(p) and p["band"] in TNS_FILTERS]
    seen = [p for p in points if p["mag"] is not None and p["flux"] > MIN_SNR * p["flux_error"]]
    if not seen:
        raise InputError(
            "candidate cannot be reported: no photometry is significant enough",
            value=row["candidate_id"],
            limit=f"S/N {MIN_SNR:g} in forced photometry",
            remedy="leave it out with --where",
        )
    before = [p for p in points if p["mjd"] < seen[0]["mjd"] and p not in seen]
    words = "; ".join(flags_in_words(int(row["flags"] or 0)))
    group = str(settings.tns_group_id)
    return {
        "ra": {"value": f"{row['ra']:.7f}", "error": f"{row['position_error_arcsec']:.2f}", "units": "arcsec"},
        "dec": {"value": f"{row['dec']:.7f}", "error": f"{row['position_error_arcsec']:.2f}", "units": "arcsec"},
        "reporting_group_id": group,
        "discovery_data_source_id": str(settings.tns_data_source_id or group),
        "reporter": settings.reporter,
        "discovery_datetime": moment(seen[0]["mjd"]).replace("T", " "),
        "at_type": "1",
        "host_name": "",
        "host_redshift": "",
        "transient_redshift": "",
        "internal_name": row["candidate_id"],
        "remarks": f"found in the follow-up of {event}" + (f"; {words}" if words else ""),
        "proprietary_period_groups": [group],
        "proprietary_period": {"proprietary_period_value": "0", "proprietary_period_units": "days"},
        "non_detection": _non_detection(before[-1] if before else None),
        "photometry": {"photometry_group": {str(n): _tns_point(point) for n, point in enumerate(seen)}},
    }


def _tns_point(point: Row) -> dict[str, str]:
    return {
        "obsdate": moment(point["mjd"]).replace("T", " "),
        "flux": f"{point['mag']:.3f}",
        "flux_error": f"{point['mag_error']:.3f}",
        "limiting_flux": f"{point['limit_mag']:.2f}",
        "flux_units": TNS_AB_MAG,
        "filter_value": TNS_FILTERS[point["band"]],
        "instrument_value": TNS_DECAM,
        "exptime": "",
        "observer": "",
        "comments": f"difference image, exposure {point['expnum']} CCD {point['ccd']}",
    }


def _non_detection(point: Row | None) -> dict[str, str]:
    known = {} if point is None else _tns_point({**point, "mag": 0.0, "mag_error": 0.0})
    names = ("obsdate", "limiting_flux", "flux_units", "filter_value", "instrument_value", "exptime", "observer")
    about = {name: known.get(name, "") for name in names}
    archive = ("", "") if point else (TNS_OTHER_ARCHIVE, "not in earlier DECam exposures that serve as templates")
    return about | {"comments": "", "archiveid": archive[0], "archival_remarks": archive[1]}


def moment(mjd: float) -> str:
    """Format an MJD as UTC to the second: ``2017-08-17T12:41:04``."""
    return (MJD_EPOCH + timedelta(days=mjd)).isoformat(timespec="seconds")


def in_order(photometry: Sequence[Row]) -> list[Row]:
    """Return photometry sorted by time, then exposure."""
    return sorted(photometry, key=lambda point: (point["mjd"], point["expnum"]))


def _usable(point: Row) -> bool:
    flux, error = point["flux"], point["flux_error"]
    return not point["masked"] and None not in (flux, error) and math.isfinite(flux) and error > 0


def require_settings(form: str, settings: ReportSettings) -> None:
    """Raise unless the required settings are given.

    Raises
    ------
    InputError
        If a required setting is missing.
    """
    for name in REQUIRED.get(form, ()):
        if not getattr(settings, name):
            raise InputError(
                "a setting required for the report is missing",
                value=name,
                remedy="set it in the file given with --settings",
            )

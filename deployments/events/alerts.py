"""Parse and store gravitational-wave alerts and their sky maps, and announce them to the server.

A repeated alert is ignored, and an older alert that arrives late does not replace a newer one. What a new map or a
retraction means for registered nights is decided in :mod:`deployments.events.decisions`, from the stored alerts.
"""

import base64
import binascii
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from blocks.gw_events import RECORD, AlertRecord, event_folder, read_alert, read_event
from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import write_bytes, write_text
from imaging.io.skymaps import read_skymap
from tasks.engine.events import emit

EVENT_RESOURCE = "gw.event.{superevent}"

STORED_S = 10.0
"""Time within which a server stores an event that it has received, seconds."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "gw-workflow/alert")
_SUPEREVENT = re.compile(r"[A-Z]{1,4}\d{6}[a-z]+")

Emit = Callable[..., Any]


def parse_alert(content: bytes) -> tuple[AlertRecord, bytes | None]:
    """Parse an alert of the International Gravitational-Wave Network as sent over Kafka.

    Parameters
    ----------
    content
        The JSON document; its sky map is multi-order FITS in base64.

    Returns
    -------
    record, skymap
        The alert, and the bytes of its sky map; None without a map.

    Raises
    ------
    InputError
        If it is not a valid alert.
    """
    try:
        document = json.loads(content)
        event = document.get("event") or {}
        encoded = event.get("skymap")
        record = AlertRecord(
            superevent=document["superevent_id"],
            alert_type=str(document["alert_type"]).upper(),
            time_created=document["time_created"],
            time_event=event.get("time"),
            false_alarms_per_second=event.get("far"),
            significant=bool(event.get("significant", False)),
            classification=_stated(event.get("classification")),
            properties=_stated(event.get("properties")),
            instruments=event.get("instruments") or (),
            gracedb=(document.get("urls") or {}).get("gracedb"),
        )
        skymap = base64.b64decode(encoded, validate=True) if encoded else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, binascii.Error) as error:
        raise InputError("invalid alert", value=f"{type(error).__name__}: {error}"[:300]) from error
    if not _SUPEREVENT.fullmatch(record.superevent):
        raise InputError("invalid alert", value=record.superevent[:80], limit="a name such as S190814bv")
    if skymap is not None:
        record = record.model_copy(update={"skymap": f"{record.name}.multiorder.fits"})
    return record, skymap


def _stated(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the probabilities that an alert states."""
    return {name: value for name, value in (values or {}).items() if value is not None}


def store_alert(site: Site, content: bytes) -> AlertRecord | None:
    """Store an alert and its sky map; return its record, or None if it was stored before.

    Raises
    ------
    InputError
        If it is invalid or its map cannot be read.
    StorageError
        If it cannot be written.
    """
    record, skymap = parse_alert(content)
    folder = event_folder(site, record.superevent)
    path = folder / f"{record.name}.json"
    if path.exists():
        return None
    if skymap is not None and record.skymap is not None:
        write_bytes(folder / record.skymap, skymap)
        try:
            read_skymap(folder / record.skymap)
        except InputError:
            (folder / record.skymap).unlink()
            raise
    text = record.model_dump_json(indent=1) + "\n"
    write_text(path, text)
    current = read_event(site, record.superevent)
    if current == record:
        write_text(folder / RECORD, text)
    return record


def pending_alerts(site: Site) -> Iterator[tuple[AlertRecord, Path]]:
    """Yield the alerts that were not announced, the oldest first, each with the mark to set after announcing it."""
    for path in sorted((site.state / "events").glob("*/*-*.json")):
        mark = path.with_suffix(".announced")
        record = read_alert(path)
        if record is not None and not mark.exists():
            yield record, mark


def announce_alerts(site: Site, *, emit_event: Emit | None = None) -> list[str]:
    """Emit an event for each alert that was not announced: ``gw.event.received`` or ``gw.event.retracted``.

    Parameters
    ----------
    site
        Site that stores the alerts.
    emit_event
        Emits an event, with the parameters of :func:`tasks.engine.events.emit`; None to emit it and to wait until the
        server has stored it, because a server that is killed forgets events that it has only received.

    Returns
    -------
    names
        Announced alerts, ``SUPEREVENT/ALERT``.

    Raises
    ------
    Exception
        If the server does not store an event; the others are announced at the next call.
    """
    announced = []
    for record, mark in pending_alerts(site):
        identity = f"{record.superevent}/{record.name}"
        resource = EVENT_RESOURCE.format(superevent=record.superevent)
        payload = record.model_dump(mode="json")
        event_id = uuid.uuid5(_NAMESPACE, identity)
        (emit_event or emit_and_check)(record.event_name, event_id, resource, about=record.superevent, payload=payload)
        mark.touch()
        announced.append(identity)
    return announced


def emit_and_check(name: str, event_id: uuid.UUID, resource: str, *, about: str, payload: Mapping[str, Any]) -> None:
    """Emit an event and wait until the server has stored it.

    Raises
    ------
    Exception
        If it does not accept the event, or has not stored it after :data:`STORED_S`.
    """
    from prefect.settings import PREFECT_API_URL

    from deployments.server.server import ask_server

    emit(name, event_id, resource, about=about, payload=payload)
    deadline = time.monotonic() + STORED_S
    chosen = {"id": {"id": [str(event_id)]}, "order": "DESC"}
    while not ask_server(str(PREFECT_API_URL.value()), "events/filter", {"filter": chosen, "limit": 1})["events"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server has not stored the event {name} of {about}")
        time.sleep(0.3)

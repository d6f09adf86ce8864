"""Parse and store gravitational-wave alerts and their sky maps, and announce them to the server.

Every alert of an event is stored in ``state/events/{superevent}``; ``event.json`` is the current one. A repeated alert
is ignored, and an older alert that arrives late does not replace a newer one. A new map of an event with registered
nights starts the ranking of their candidates; a retraction closes the event.
"""

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.nights import read_night, registered_nights
from blocks.site import Site
from blocks.skymaps import EVENT_NAME as SKYMAP_RECEIVED
from deployments.events.registry import RESOURCE
from imaging.errors import InputError
from imaging.io.atomic import write_bytes, write_text
from imaging.io.skymaps import read_skymap
from tasks.engine.events import emit

RECORD = "event.json"

EVENT_RESOURCE = "gw.event.{superevent}"

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "gw-workflow/alert")
_SUPEREVENT = re.compile(r"[A-Z]{1,4}\d{6}[a-z]+")

Emit = Callable[..., Any]


class AlertRecord(BaseModel):
    """One alert of an event, without its sky map."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    superevent: str
    """Name of the event, such as S190814bv."""
    alert_type: Literal["EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"]
    """Kind of the alert."""
    time_created: str
    """Time of the alert, UTC."""
    time_event: str | None = None
    """Time of the merger, UTC."""
    false_alarms_per_second: float | None = None
    """False-alarm rate, Hz."""
    significant: bool = False
    """Whether the collaborations flag it as significant."""
    classification: dict[str, float] = {}
    """Probability by class of source (BNS, NSBH, BBH, Terrestrial)."""
    properties: dict[str, float] = {}
    """Probability by property (HasNS, HasRemnant, ...)."""
    instruments: tuple[str, ...] = ()
    """Detectors that saw it."""
    skymap: str | None = None
    """File of the sky map, beside this record; None without a map."""
    gracedb: str | None = None
    """Page of the event."""

    @property
    def is_retraction(self) -> bool:
        """Whether the alert retracts the event."""
        return self.alert_type == "RETRACTION"

    @property
    def name(self) -> str:
        """Stem of the alert's files: time and type."""
        return f"{re.sub(r'[^0-9TZ]', '', self.time_created)}-{self.alert_type.lower()}"

    @property
    def event_name(self) -> str:
        """Name of the Prefect event of this alert."""
        return "gw.event.retracted" if self.is_retraction else "gw.event.received"


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
    except (ValueError, KeyError, AttributeError, TypeError, ValidationError, binascii.Error) as error:
        raise InputError("invalid alert", value=f"{type(error).__name__}: {error}"[:300]) from error
    if not _SUPEREVENT.fullmatch(record.superevent):
        raise InputError("invalid alert", value=record.superevent[:80], limit="a name such as S190814bv")
    if skymap is not None:
        record = record.model_copy(update={"skymap": f"{record.name}.multiorder.fits"})
    return record, skymap


def _stated(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the probabilities that an alert states."""
    return {name: value for name, value in (values or {}).items() if value is not None}


def event_folder(site: Site, superevent: str) -> Path:
    """Return the folder of an event."""
    return site.state / "events" / superevent


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
    if current is None or record.time_created >= current.time_created:
        write_text(folder / RECORD, text)
    return record


def read_event(site: Site, superevent: str) -> AlertRecord | None:
    """Return the current alert of an event; None for an unknown event."""
    return _read(event_folder(site, superevent) / RECORD)


def _read(path: Path) -> AlertRecord | None:
    try:
        return AlertRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def pending_alerts(site: Site) -> Iterator[tuple[AlertRecord, Path]]:
    """Yield the alerts that were not announced, the oldest first, each with the mark to set after announcing it."""
    for path in sorted((site.state / "events").glob("*/*-*.json")):
        mark = path.with_suffix(".announced")
        record = _read(path)
        if record is not None and not mark.exists():
            yield record, mark


def announce_alerts(site: Site, *, emit_event: Emit = emit) -> list[str]:
    """Announce all alerts that were not announced.

    An event is emitted per alert received or event retracted; for a new current map, another event per registered night
    starts the ranking of its candidates.

    Returns
    -------
    names
        Announced alerts, ``SUPEREVENT/ALERT``.

    Raises
    ------
    Exception
        If the server does not accept an event; the others are announced at the next call.
    """
    announced = []
    for record, mark in pending_alerts(site):
        identity = f"{record.superevent}/{record.name}"
        resource = EVENT_RESOURCE.format(superevent=record.superevent)
        payload = record.model_dump(mode="json")
        emit_event(
            record.event_name, uuid.uuid5(_NAMESPACE, identity), resource, about=record.superevent, payload=payload
        )
        if record.skymap is not None and record == read_event(site, record.superevent):
            skymap = event_folder(site, record.superevent) / record.skymap
            for night in _nights_of(site, record.superevent):
                emit_event(
                    SKYMAP_RECEIVED,
                    uuid.uuid5(_NAMESPACE, f"{identity}/{night}"),
                    RESOURCE.format(night=night),
                    about=f"sky map {record.skymap}",
                    payload={"night": night, "skymap": str(skymap)},
                )
        mark.touch()
        announced.append(identity)
    return announced


def _nights_of(site: Site, superevent: str) -> list[int]:
    return [number for number in registered_nights(site) if read_night(site, number).record.event == superevent]

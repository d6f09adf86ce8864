"""Parse and store gravitational-wave alerts and their sky maps, and announce them to the server.

A repeated alert is ignored, and an older alert that arrives late does not replace a newer one. What a new map or a
retraction means for registered nights is decided in :mod:`deployments.events.decisions`, from the stored alerts.
"""

import base64
import binascii
import io
import json
import math
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blocks.gw_events import RECORD, AlertRecord, checked_time, event_folder, read_alert, read_event
from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import write_bytes, write_text
from imaging.io.damage import reading
from imaging.io.skymaps import read_skymap
from imaging.skymap.model import SkyMap
from tasks.engine.events import emit

EVENT_RESOURCE = "gw.event.{superevent}"

STORED_S = 10.0
"""Time within which a server stores an event that it has received, seconds."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "gw-workflow/alert")
_SUPEREVENT = re.compile(r"[A-Z]{1,4}\d{6}[a-z]{1,10}")
_AVRO = b"Obj\x01"
_ENDINGS = {"skymap": "multiorder.fits", "combined_skymap": "combined.multiorder.fits"}

Emit = Callable[..., Any]


def keep_raw(site: Site, content: bytes) -> Path:
    """Keep a message as it came, whatever it is, below ``state/alerts``; return its file, the same for the same bytes.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    suffix = "avro" if content.startswith(_AVRO) else "json" if is_alert(content) else "bin"
    path = site.state / "alerts" / f"{sha256(content).hexdigest()[:24]}.{suffix}"
    if not path.exists():
        write_bytes(path, content)
    return path


def is_alert(content: bytes) -> bool:
    """Whether a file may be an alert by its beginning: JSON or Avro, which no sky map is."""
    return content.startswith(_AVRO) or content.lstrip()[:1] in (b"{", b"[")


def given_skymap(path: Path) -> SkyMap:
    """Read a sky map that somebody gives: a file of one, or an alert with one, which is not stored.

    Raises
    ------
    InputError
        If it is missing or damaged, or the alert has none.
    """
    with reading(path, "the sky map cannot be read", "give a sky map, or an alert with one"), path.open("rb") as stream:
        start = stream.read(256)
    if not is_alert(start):
        return read_skymap(path)
    record, contents = parse_alert(path.read_bytes())
    return read_skymap(contents[skymap_name(record, path)])


def skymap_name(record: AlertRecord, path: Path) -> str:
    """Return the name of the sky map of an alert that somebody gives as a file.

    Raises
    ------
    InputError
        If it has none, or is a retraction.
    """
    if record.is_retraction or record.skymap is None:
        raise InputError("the alert has no sky map", value=f"{path}: {record.alert_type.lower()}", limit="a sky map")
    return record.skymap


def parse_alert(content: bytes) -> tuple[AlertRecord, dict[str, bytes]]:
    """Parse an alert of the International Gravitational-Wave Network as sent over Kafka.

    Parameters
    ----------
    content
        The JSON document, whose sky maps are multi-order FITS in base64, or the same as an Avro file (Hopskotch).

    Returns
    -------
    record, skymaps
        The alert, and the bytes of its sky maps by file name.

    Raises
    ------
    InputError
        If name, type or time of the alert, or the text of its map, is none. Other fields that are not understood are
        left out.
    """
    try:
        document = _decoded(content)
        if not isinstance(document.get("event"), Mapping | None):
            raise TypeError(f"its event is a {type(document['event']).__name__}")
        event, external, urls = (_mapping(document.get(key)) for key in ("event", "external_coinc", "urls"))
        encoded = {"skymap": event.get("skymap"), "combined_skymap": external.get("combined_skymap")}
        record = AlertRecord(
            superevent=document["superevent_id"],
            alert_type=str(document["alert_type"]).upper(),
            time_created=document["time_created"],
            time_event=_time(event.get("time")),
            false_alarms_per_second=_number(event.get("far")),
            significant=str(event.get("significant")).strip().lower() in ("true", "1", "yes"),
            classification=_numbers(event.get("classification")),
            properties=_numbers(event.get("properties")),
            instruments=_words(event.get("instruments")),
            gracedb=urls.get("gracedb") if isinstance(urls.get("gracedb"), str) else None,
            coincidence={k: v for k, v in external.items() if isinstance(v, str | float | int) and k not in _ENDINGS},
        )
        contents = {kind: _binary(value) for kind, value in encoded.items() if value and kind == "skymap"}
    except ValidationError as error:
        first = error.errors()[0]
        value = f"{'.'.join(map(str, first['loc']))} = {first['input']!r}: {first['msg']}"
        raise InputError("invalid alert", value=value[:300]) from error
    except KeyError as error:
        raise InputError("invalid alert", value=f"it has no {error.args[0]}") from error
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error) as error:
        raise InputError("invalid alert", value=f"{type(error).__name__}: {error}"[:300]) from error
    with suppress(ValueError, TypeError, AttributeError, binascii.Error):  # the event's own map counts
        if encoded["combined_skymap"]:
            contents["combined_skymap"] = _binary(encoded["combined_skymap"])
    if not _SUPEREVENT.fullmatch(record.superevent):
        raise InputError("invalid alert", value=record.superevent[:80], limit="a name such as S190814bv")
    return _named(record, contents)


def _named(record: AlertRecord, contents: Mapping[str, bytes]) -> tuple[AlertRecord, dict[str, bytes]]:
    """Return an alert that names the files of its sky maps, and their contents by file."""
    names = {kind: f"{record.name}.{_ENDINGS[kind]}" for kind in contents}
    return record.model_copy(update=names), {names[kind]: content for kind, content in contents.items()}


def _decoded(content: bytes) -> dict[str, Any]:
    """Return the document of a message, JSON or an Avro file.

    Raises
    ------
    ValueError, TypeError
        If it is neither, or not one document.
    """
    if content.startswith(_AVRO):
        try:
            import fastavro
        except ImportError as error:
            raise ValueError("Avro needs the package fastavro: pip install 'gw-workflow[avro]'") from error
        try:
            found = list(fastavro.reader(io.BytesIO(content)))
        except Exception as error:
            raise ValueError(f"damaged Avro: {error}") from error
    else:
        found = json.loads(content)
    document = found[0] if isinstance(found, list) and len(found) == 1 else found
    if isinstance(document, dict) and set(document) == {"format", "content"}:  # as hop-client wraps JSON
        document = document["content"]
    if not isinstance(document, dict):
        raise TypeError("not one document")
    return document


def _binary(value: str | bytes) -> bytes:
    """Return the bytes of a sky map; in JSON they are base64, also with line breaks."""
    return value if isinstance(value, bytes) else base64.b64decode("".join(value.split()), validate=True)


def _mapping(value: object) -> Mapping[str, Any]:
    """Return a part of an alert, an empty one where it is missing or of another form."""
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    """Return a number that an alert may state; None if it does not, or states none."""
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(values: object) -> dict[str, float]:
    """Return the numbers of a part of an alert by name."""
    found = {str(name): _number(value) for name, value in _mapping(values).items()}
    return {name: number for name, number in found.items() if number is not None}


def _words(values: object) -> tuple[str, ...]:
    """Return the texts of a list, or of one text with commas."""
    parts = values.split(",") if isinstance(values, str) else values if isinstance(values, list | tuple) else ()
    return tuple(part.strip() for part in parts if isinstance(part, str) and part.strip())


def _time(value: object) -> str | None:
    """Return a time as it is written, None if it is none."""
    try:
        return checked_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def store_alert(site: Site, content: bytes) -> AlertRecord | None:
    """Store an alert and its sky maps; return its record, or None if it was stored before.

    Raises
    ------
    InputError
        If it is invalid or a map of it cannot be read.
    StorageError
        If it cannot be written.
    """
    record, skymaps = parse_alert(content)
    folder = event_folder(site, record.superevent)
    stored = read_alert(folder / f"{record.name}.json")
    if stored is not None:
        if _is_same(folder, stored, record, skymaps):
            return None
        mark = sha256(content).hexdigest()[:8]
        contents = {kind: skymaps[str(getattr(record, kind))] for kind in _ENDINGS if getattr(record, kind)}
        record, skymaps = _named(record.model_copy(update={"mark": mark}), contents)
    path = folder / f"{record.name}.json"
    if path.exists():
        return None
    for name, skymap in skymaps.items():
        try:
            _write_skymap(folder / name, skymap)
        except InputError:
            if name != record.combined_skymap:
                raise
            record = record.model_copy(update={"combined_skymap": None})  # the event's own map counts
    text = record.model_dump_json(indent=1) + "\n"
    write_text(path, text)
    current = read_event(site, record.superevent)
    if current == record:
        write_text(folder / RECORD, text)
    return record


def _is_same(folder: Path, stored: AlertRecord, record: AlertRecord, skymaps: Mapping[str, bytes]) -> bool:
    """Whether an alert says what a stored one of the same time and type does.

    A combined map that could not be read was not stored.
    """
    if stored not in (record, record.model_copy(update={"combined_skymap": None})):
        return False
    kept = {stored.skymap, stored.combined_skymap} & set(skymaps)
    return all((folder / str(name)).read_bytes() == skymaps[str(name)] for name in kept)


def _write_skymap(path: Path, content: bytes) -> None:
    """Write a sky map that can be read; else raise InputError and leave none."""
    write_bytes(path, content)
    try:
        read_skymap(path)
    except Exception as error:
        path.unlink()
        if isinstance(error, InputError):
            raise
        reason = f"{type(error).__name__}: {error}"[:300]
        raise InputError("the sky map of an alert cannot be read", value=reason) from error


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
        identity = f"{record.superevent}/{mark.stem}"
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

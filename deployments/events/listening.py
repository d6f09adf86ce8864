"""Listen to gravitational-wave alerts over Kafka; needs the package gcn-kafka (extra ``alerts``).

A message is kept as it came before its offset is committed. What is not understood is reported and stays there; no
message, and no error of the broker, ends the listener.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from blocks.gw_events import AlertRecord, event_folder
from blocks.site import Site
from deployments.events.alerts import announce_alerts, keep_raw, store_alert
from deployments.events.prefetching import prefetch_remembered
from imaging.errors import InputError, StorageError
from imaging.io.skymaps import read_skymap

POLL_S = 1.0
"""Timeout of one poll of the broker, seconds."""

PAUSE_S = 2.0
"""Pause after an error of the broker, the server or the disk, seconds."""

Answer = TypeVar("Answer")


class Message(Protocol):
    """A message of ``confluent_kafka``."""

    def error(self) -> object | None:
        """Return the error; None for a message."""

    def value(self) -> bytes | None:
        """Return the content."""


class Consumer(Protocol):
    """The part of ``confluent_kafka.Consumer`` that is used."""

    def poll(self, timeout: float) -> Message | None:
        """Return the next message; None after the timeout."""

    def commit(self, message: Message, asynchronous: bool) -> object:
        """Commit the offset of a message."""


def open_consumer(
    client_id: str, client_secret: str, topics: tuple[str, ...], domain: str, options: Mapping[str, Any] | None = None
) -> Consumer:
    """Connect to the General Coordinates Network, starting after the last committed message of this client.

    Parameters
    ----------
    client_id, client_secret, domain
        Credentials.
    topics
        Topics.
    options
        Further settings of librdkafka.

    Raises
    ------
    InputError
        If the package gcn-kafka is not installed.
    """
    try:
        from gcn_kafka import Consumer as GcnConsumer
    except ImportError as error:
        raise InputError(
            "listening to alerts needs a package", value="gcn-kafka", remedy="pip install 'gw-workflow[alerts]'"
        ) from error
    settings = {"group.id": f"gw-workflow-{client_id}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = GcnConsumer(
        config=settings | dict(options or {}), client_id=client_id, client_secret=client_secret, domain=domain
    )
    consumer.subscribe(list(topics))
    return consumer


def listen(
    site: Site,
    consumer: Consumer,
    *,
    say: Callable[[str], None],
    announce: Callable[[Site], object] = announce_alerts,
    seconds: float | None = None,
) -> list[AlertRecord]:
    """Keep each message as it arrives, store its alert, commit it to the broker, then announce it to the server.

    Parameters
    ----------
    site
        Site that stores the alerts.
    consumer
        Source of the alerts.
    say
        Writes a line for the user; one that was said last is not repeated.
    announce
        Announces stored alerts to the server; repeated after the next poll if it fails.
    seconds
        How long to listen; None for no limit.

    Returns
    -------
    records
        The new alerts.

    Raises
    ------
    StorageError
        If a message cannot be kept when the time is over; until then it is tried again.
    """
    records: list[AlertRecord] = []
    deadline = None if seconds is None else time.monotonic() + seconds
    attempt = Attempts(say)
    while deadline is None or time.monotonic() < deadline:
        record = None
        message = attempt("broker error", lambda: consumer.poll(POLL_S))
        if message is not None and message.error() is not None:
            say(f"broker error: {message.error()}")
        elif message is not None:
            record = _take(site, message.value() or b"", say, deadline)
            if record is not None:
                records.append(record)
            # The broker sends a message whose commit has failed again; it is known then.
            attempt("the broker took no commit", partial(consumer.commit, message=message, asynchronous=False))
        attempt("alerts not announced yet", partial(announce, site))
        if record is not None and record.skymap is not None:  # after the announcement, which must not wait
            skymap = event_folder(site, record.superevent) / record.skymap
            attempt("catalogue not fetched", lambda: prefetch_remembered(site, read_skymap(skymap), say))  # noqa: B023
    return records


class Attempts:
    """Calls that may fail; an error is reported once until the call succeeds again.

    Parameters
    ----------
    say
        Writes a line for the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: dict[str, str] = {}

    def __call__(self, what: str, call: Callable[[], Answer]) -> Answer | None:
        """Call; return None after an error, which is reported, and a pause."""
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001 (nothing ends the listener)
            text = f"{what}: {type(error).__name__}: {error}"
            if self._said.get(what) != text:
                self._say(text)
            self._said[what] = text
            time.sleep(PAUSE_S)
            return None
        self._said.pop(what, None)
        return answer


def _take(site: Site, content: bytes, say: Callable[[str], None], deadline: float | None) -> AlertRecord | None:
    """Keep a message and store its alert, again while the disk takes nothing; report one that is not understood."""
    waits = ""
    while True:
        try:
            raw = keep_raw(site, content)
            record = store_alert(site, content)
            break
        except StorageError as error:
            if deadline is not None and time.monotonic() > deadline:
                raise
            if waits != error.sentence():
                waits = error.sentence()
                say(f"an alert waits: {waits}")
            time.sleep(PAUSE_S)
        except Exception as error:  # noqa: BLE001 (one odd message is not the last one)
            text = error.sentence() if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            say(f"not taken: {text[:1000]}; kept as {raw}")
            return None
    if record is None:
        return None
    what = ", ".join(f"{kind} {p:.0%}" for kind, p in record.classification.items() if p >= 0.01)
    say(f"{record.superevent}: {record.alert_type.lower()}{f' ({what})' if what else ''}")
    if record.combined_skymap is not None:
        path = event_folder(site, record.superevent) / record.combined_skymap
        say(f"{record.superevent}: map combined with an external event, for register-night --skymap: {path}")
    return record

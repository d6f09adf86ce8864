"""Listen to gravitational-wave alerts over Kafka; needs the package gcn-kafka (extra ``alerts``)."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from blocks.gw_events import AlertRecord, event_folder
from blocks.site import Site
from deployments.events.alerts import announce_alerts, store_alert
from deployments.events.prefetching import prefetch_remembered
from imaging.errors import InputError
from imaging.io.skymaps import read_skymap

POLL_S = 1.0
"""Timeout of one poll of the broker, seconds."""


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
    """Store each alert as it arrives, then commit it to the broker, then announce it to the server.

    Parameters
    ----------
    site
        Site that stores the alerts.
    consumer
        Source of the alerts.
    say
        Writes a line for the user.
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
        If an alert cannot be stored; the broker will send it again.
    """
    records: list[AlertRecord] = []
    deadline = None if seconds is None else time.monotonic() + seconds
    trouble = ""
    while deadline is None or time.monotonic() < deadline:
        message, record = consumer.poll(POLL_S), None
        if message is not None and message.error() is not None:
            say(f"broker error: {message.error()}")
        elif message is not None:
            record = _take(site, message.value() or b"", say)
            if record is not None:
                records.append(record)
            consumer.commit(message=message, asynchronous=False)
        try:
            announce(site)
            trouble = ""
        except Exception as error:  # noqa: BLE001 (the alerts are stored, and announced later)
            if trouble != str(error):
                say(f"alerts not announced yet: {type(error).__name__}: {error}")
            trouble = str(error)
        if record is not None and record.skymap is not None:  # after the announcement, which must not wait
            prefetch_remembered(site, read_skymap(event_folder(site, record.superevent) / record.skymap), say)
    return records


def _take(site: Site, content: bytes, say: Callable[[str], None]) -> AlertRecord | None:
    try:
        record = store_alert(site, content)
    except InputError as error:
        say(error.sentence())
        return None
    if record is None:
        return None
    what = ", ".join(f"{kind} {p:.0%}" for kind, p in record.classification.items() if p >= 0.01)
    say(f"{record.superevent}: {record.alert_type.lower()}{f' ({what})' if what else ''}")
    return record

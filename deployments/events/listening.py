"""Listen to gravitational-wave alerts over Kafka. It needs the package gcn-kafka (extra ``alerts``)."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from blocks.site import Site
from deployments.events.alerts import AlertRecord, announce_alerts, event_folder, store_alert
from deployments.events.prefetching import prefetch_remembered
from imaging.errors import InputError
from imaging.io.skymaps import read_skymap

POLL_S = 1.0
"""Seconds that one question to the broker waits."""


class Message(Protocol):
    """A message as ``confluent_kafka`` gives it."""

    def error(self) -> object | None:
        """Return what went wrong; None if it is a message."""

    def value(self) -> bytes | None:
        """Return its content."""


class Consumer(Protocol):
    """What is used of ``confluent_kafka.Consumer``."""

    def poll(self, timeout: float) -> Message | None:
        """Return the next message; None if there was none in time."""

    def commit(self, message: Message, asynchronous: bool) -> object:
        """Say that a message need not be given again."""


def open_consumer(
    client_id: str, client_secret: str, topics: tuple[str, ...], domain: str, options: Mapping[str, Any] | None = None
) -> Consumer:
    """Connect to the General Coordinates Network, beginning where this client has left off.

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
    """Take alerts as they come: keep each, then tell the broker that it is kept, then tell the server.

    Parameters
    ----------
    site
        The site that keeps them.
    consumer
        Where they come from.
    say
        Takes a line for the person who looks on.
    announce
        Tells the server of what is kept; when it fails, it is tried again after the next poll.
    seconds
        How long to listen; None for ever.

    Returns
    -------
    records
        The alerts that were new.

    Raises
    ------
    StorageError
        If an alert cannot be kept; the broker will give it again.
    """
    records: list[AlertRecord] = []
    deadline = None if seconds is None else time.monotonic() + seconds
    trouble = ""
    while deadline is None or time.monotonic() < deadline:
        message, record = consumer.poll(POLL_S), None
        if message is not None and message.error() is not None:
            say(f"the broker says: {message.error()}")
        elif message is not None:
            record = _take(site, message.value() or b"", say)
            if record is not None:
                records.append(record)
            consumer.commit(message=message, asynchronous=False)
        try:
            announce(site)
            trouble = ""
        except Exception as error:  # noqa: BLE001 (whatever went wrong, the alerts are kept and announced later)
            if trouble != str(error):
                say(f"the server cannot be told: {type(error).__name__}: {error}")
            trouble = str(error)
        if record is not None and record.skymap is not None:  # after the announcement, which must not wait for it
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

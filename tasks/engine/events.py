"""Emit events to the Prefect server in a way that fails when nobody hears them."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

RESOURCE_ID = "prefect.resource.id"


def emit(name: str, event_id: uuid.UUID, resource: str, *, about: str, payload: Mapping[str, Any]) -> None:
    """Emit an event to the server that Prefect's settings name.

    Parameters
    ----------
    name
        What has happened, such as ``gw.night.registered``.
    event_id
        Its identity; the same event emitted again is one event.
    resource
        What it has happened to, such as ``gw.night.20170818``.
    about
        The resource in words, for the pages.
    payload
        What the run that it starts needs; JSON.

    Raises
    ------
    Exception
        If the server does not accept it.
    """
    asyncio.run(_emit(name, event_id, {RESOURCE_ID: resource, "prefect.resource.name": about}, dict(payload)))


async def _emit(name: str, event_id: uuid.UUID, resource: dict[str, str], payload: dict[str, Any]) -> None:
    from prefect.events import Event, Resource
    from prefect.events.clients import get_events_client

    async with get_events_client() as client:
        await client.emit(Event(id=event_id, event=name, resource=Resource(resource), payload=payload))

"""Emit events to the Prefect server, with an error if the server does not accept them."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

RESOURCE_ID = "prefect.resource.id"


def emit(name: str, event_id: uuid.UUID, resource: str, *, about: str, payload: Mapping[str, Any]) -> None:
    """Emit an event to the server at ``PREFECT_API_URL``.

    Parameters
    ----------
    name
        Event name, such as ``gw.night.registered``.
    event_id
        Identifier; the server stores events with the same identifier once.
    resource
        Resource identifier, such as ``gw.night.20170818``.
    about
        Resource name shown in the UI.
    payload
        JSON payload: the parameters of the run that an automation starts.

    Raises
    ------
    Exception
        If the server is unavailable or rejects the event.
    """
    asyncio.run(_emit(name, event_id, {RESOURCE_ID: resource, "prefect.resource.name": about}, dict(payload)))


async def _emit(name: str, event_id: uuid.UUID, resource: dict[str, str], payload: dict[str, Any]) -> None:
    # The public prefect.events.emit_event queues events and drops them without an error if the server is unavailable.
    from prefect.events import Event, Resource
    from prefect.events.clients import get_events_client

    async with get_events_client() as client:
        await client.emit(Event(id=event_id, event=name, resource=Resource(resource), payload=payload))

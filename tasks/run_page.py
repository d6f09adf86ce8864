"""The page of a run in Prefect's pages: on which run's page something is shown, and how it gets there.

A flow that is called by another one has a page of its own, where nobody looks for the result of the whole. What belongs
to an exposure is therefore shown on the page of the outermost run that processes just this exposure.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext
from prefect.logging import get_logger

from tasks.records import plain_quality

_page: ContextVar[UUID | None] = ContextVar("run_page", default=None)


def current_run() -> UUID | None:
    """Return the identity of the current flow run; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def page_run() -> UUID | None:
    """Return the run on whose page things are shown now; None where there is no run."""
    return _page.get() or current_run()


@contextmanager
def on_this_page() -> Iterator[None]:
    """Let what the flows inside the ``with`` block show appear on the page of the current run."""
    token = _page.set(current_run())
    try:
        yield
    finally:
        _page.reset(token)


def show(run: UUID, kind: str, key: str, data: Any, description: str) -> UUID:  # noqa: ANN401
    """Put something on the page of a run; return its identity.

    Parameters
    ----------
    run
        The run.
    kind
        ``markdown``, ``table`` or ``progress``.
    key
        Name; the same key in another run is a new version of it. Lower-case letters, digits and dashes.
    data
        Text, rows or percent; numbers of rows that are not finite are left empty, the page could not read them.
    description
        What it is.

    Raises
    ------
    httpx.HTTPError
        If the server does not take it.
    """
    content = json.dumps([plain_quality(row) for row in data], allow_nan=False) if kind == "table" else data
    artifact = ArtifactCreate(type=kind, key=key, data=content, description=description, flow_run_id=run)
    with get_client(sync_client=True) as client:
        return client.create_artifact(artifact).id


def try_to_show(run: UUID, kind: str, key: str, data: Any, description: str) -> None:  # noqa: ANN401
    """Put something on the page of a run as :func:`show` does; a page is no reason for a run to fail."""
    try:
        show(run, kind, key, data, description)
    except httpx.HTTPError as error:
        get_logger(__name__).warning("the server did not take %s: %s", key, error)


def renew(artifact: UUID, data: Any, description: str) -> None:  # noqa: ANN401
    """Replace data and description of something that is shown.

    Raises
    ------
    httpx.HTTPError
        If the server does not take it.
    """
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))

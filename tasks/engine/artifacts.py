"""Artifacts on the pages of runs: tables, Markdown and progress."""

import json
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.logging import get_logger

from tasks.engine.jobs import plain_quality


def create_artifact(run: UUID, kind: str, key: str, data: Any, description: str) -> UUID:  # noqa: ANN401
    """Create an artifact of a run; return its identity.

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


def try_to_create_artifact(run: UUID, kind: str, key: str, data: Any, description: str) -> None:  # noqa: ANN401
    """Create an artifact of a run; a server that does not take it is no reason for the run to fail."""
    try:
        create_artifact(run, kind, key, data, description)
    except httpx.HTTPError as error:
        get_logger(__name__).warning("the server did not take %s: %s", key, error)


def update_artifact(artifact: UUID, data: Any, description: str) -> None:  # noqa: ANN401
    """Replace data and description of an artifact.

    Raises
    ------
    httpx.HTTPError
        If the server does not take it.
    """
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))

"""Artifacts of flow runs: tables, Markdown and progress."""

import json
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.logging import get_logger

from tasks.engine.jobs import plain_quality
from tasks.engine.lone_run import keep_page


def create_artifact(run: UUID, kind: str, key: str, data: Any, description: str) -> UUID:  # noqa: ANN401
    """Create an artifact of a flow run; return its identifier, without a server that of the run.

    Parameters
    ----------
    run
        Identifier of the flow run.
    kind
        ``markdown``, ``table`` or ``progress``.
    key
        Artifact key of lower-case letters, digits and dashes; the same key in another run makes a new version.
    data
        Markdown text, table rows or percentage. NaN and infinities in rows become null, because JSON has neither.
    description
        Description of the artifact.

    Raises
    ------
    httpx.HTTPError
        If the server is unavailable or rejects the artifact.
    """
    content = json.dumps([plain_quality(row) for row in data], allow_nan=False) if kind == "table" else data
    if keep_page(kind, key, content, description):
        return run
    artifact = ArtifactCreate(type=kind, key=key, data=content, description=description, flow_run_id=run)
    with get_client(sync_client=True) as client:
        return client.create_artifact(artifact).id


def try_to_create_artifact(run: UUID, kind: str, key: str, data: Any, description: str) -> None:  # noqa: ANN401
    """Create an artifact of a flow run; log a warning if the server is unavailable or rejects it."""
    try:
        create_artifact(run, kind, key, data, description)
    except httpx.HTTPError as error:
        get_logger(__name__).warning("cannot create artifact %s: %s", key, error)


def update_artifact(artifact: UUID, data: Any, description: str) -> None:  # noqa: ANN401
    """Replace data and description of an artifact.

    Raises
    ------
    httpx.HTTPError
        If the server is unavailable or rejects the update.
    """
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))

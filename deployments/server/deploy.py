"""Deploy to a Prefect server with workers: work pool, blocks, automations, limits, deployments."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from blocks.site import Site
from deployments.server.applied import Applied, ask_with, plan_deployments
from deployments.server.definitions import Definition
from deployments.server.server import server_for
from imaging.errors import InputError, StorageError

POOL = "gw-workflow"
"""Work pool of the deployments."""

DECLARATION = "prefect.yaml"

CONCURRENT_RUNS = 8
"""Concurrent runs of the work pool. Heavy deployments have lower limits of their own, so that a ranking or the watcher
starts at once."""


def deploy(site: Site, folder: Path, *, concurrent_runs: int | None = None) -> tuple[str, ...]:
    """Create work pool, blocks, automations and limits, and deploy ``prefect.yaml``, without questions.

    Existing objects are updated. Saved blocks stay unchanged, and so does what somebody has changed on the pages
    (:mod:`deployments.server.applied`).

    Parameters
    ----------
    site
        Site of the block ``Storage Roots/default``, if that does not exist.
    folder
        Folder of ``prefect.yaml`` with the code that the workers run.
    concurrent_runs
        Concurrent runs of all workers of the pool; None to keep that limit.

    Returns
    -------
    names
        Names of the deployments.

    Raises
    ------
    InputError
        If no server is named, or the folder has no ``prefect.yaml``.
    StorageError
        If ``prefect deploy`` fails.
    """
    declared = folder / DECLARATION
    if not os.environ.get("PREFECT_API_URL"):
        raise InputError(
            "no Prefect server is named",
            value="PREFECT_API_URL is not set",
            remedy="set it to the API of the server, or use gw-workflow serve, which needs no deployment",
        )
    if not declared.is_file():
        raise InputError("nothing to deploy", value=declared, remedy="give the folder of the checkout with --code")
    with server_for(site) as server:
        from blocks.folders import register_blocks
        from deployments.server.automations import create_automations
        from deployments.server.definitions import read_definitions
        from deployments.server.limits import create_limits

        definitions = read_definitions(declared)
        names = tuple(definition.name for definition in definitions)
        applied = Applied.read(site.state / "server", server.api_url)
        register_blocks(site)
        create_automations(flows=names)
        create_limits(applied)
        make_pool(applied, concurrent_runs)
        _deploy_all(folder, definitions, applied)
        applied.write()
    return names


def _deploy_all(folder: Path, definitions: Sequence[Definition], applied: Applied) -> None:
    """Let Prefect deploy the file of a folder, with the settings that somebody has changed."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        planned = {d.name: (d, paused) for d, paused in plan_deployments(ask_with(client), applied, definitions)}
    document = yaml.safe_load((folder / DECLARATION).read_text(encoding="utf-8"))
    for entry in document["deployments"]:
        definition, paused = planned[entry["name"]]
        entry |= definition.model_dump(mode="json", include={"schedules", "triggers", "concurrency_limit"})
        entry["paused"] = paused
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / DECLARATION
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        words = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StorageError("prefect deploy failed", value=" ".join((done.stdout + done.stderr).split())[-500:])


def make_pool(applied: Applied, concurrent_runs: int | None) -> None:
    """Create the work pool, or update its limit unless somebody has changed it.

    Parameters
    ----------
    applied
        The values that were applied last; updated, but not written.
    concurrent_runs
        Concurrent runs of all workers; None to keep that limit.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        known = {pool.name: pool.concurrency_limit for pool in client.read_work_pools(limit=200)}
        limit: int | None = CONCURRENT_RUNS
        if POOL in known and known[POOL] != applied.limits.get(POOL):
            limit = known[POOL]
        limit = limit if concurrent_runs is None else concurrent_runs
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", concurrency_limit=limit), overwrite=True)
    applied.limits[POOL] = CONCURRENT_RUNS

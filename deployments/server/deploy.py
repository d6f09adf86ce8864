"""Deploy to a Prefect server with workers: work pool, blocks, automations, limits, deployments."""

import os
import subprocess
import sys
from pathlib import Path

from blocks.site import Site
from deployments.server.server import server_for
from imaging.errors import InputError, StorageError

POOL = "gw-workflow"
"""Work pool of the deployments."""

DECLARATION = "prefect.yaml"

CONCURRENT_RUNS = 8
"""Concurrent runs of the work pool. Heavy deployments have lower limits of their own, so that a ranking or the watcher
starts at once."""


def deploy(site: Site, folder: Path, *, concurrent_runs: int = CONCURRENT_RUNS) -> tuple[str, ...]:
    """Create work pool, blocks, automations and limits, and deploy ``prefect.yaml``, without questions.

    Existing objects are updated; saved blocks and limits stay unchanged.

    Parameters
    ----------
    site
        Site of the block ``Storage Roots/default``, if that does not exist.
    folder
        Folder of ``prefect.yaml`` with the code that the workers run.
    concurrent_runs
        Concurrent runs of all workers of the pool.

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
    with server_for(site):
        from blocks.folders import register_blocks
        from deployments.server.automations import create_automations
        from deployments.server.definitions import read_definitions
        from deployments.server.limits import create_limits

        names = tuple(definition.name for definition in read_definitions(declared))
        register_blocks(site)
        create_automations(flows=names)
        create_limits()
        make_pool(concurrent_runs)
        words = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StorageError("prefect deploy failed", value=" ".join((done.stdout + done.stderr).split())[-500:])
    return names


def make_pool(concurrent_runs: int) -> None:
    """Create the work pool, or update its limit."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    pool = WorkPoolCreate(name=POOL, type="process", concurrency_limit=concurrent_runs)
    with get_client(sync_client=True) as client:
        client.create_work_pool(pool, overwrite=True)

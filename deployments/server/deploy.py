"""Deploy everything to a Prefect server with workers: work pool, blocks, automations, limits, deployments."""

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
"""Runs that the pool's workers may do at once. What is heavy has limits of its own; with room left here, a ranking or a
look at what comes in waits for no exposure."""


def deploy(site: Site, folder: Path, *, concurrent_runs: int = CONCURRENT_RUNS) -> tuple[str, ...]:
    """Make work pool, blocks, automations and limits, and deploy what ``prefect.yaml`` declares; ask nothing.

    What exists already is renewed; blocks and limits that somebody has saved stay as they are.

    Parameters
    ----------
    site
        The site that the block ``Storage Roots/default`` names, where there is none.
    folder
        Folder of ``prefect.yaml``: the code that the workers run.
    concurrent_runs
        How many runs the pool's workers may do at once, all together.

    Returns
    -------
    names
        The deployments.

    Raises
    ------
    InputError
        If no server is named, or the folder has no ``prefect.yaml``.
    StorageError
        If Prefect does not deploy them.
    """
    declared = folder / DECLARATION
    if not os.environ.get("PREFECT_API_URL"):
        raise InputError(
            "no Prefect server is named",
            value="PREFECT_API_URL is not set",
            remedy="set it to the server's API, or use gw-workflow serve, which needs no deploying",
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
        raise StorageError("Prefect does not deploy", value=" ".join((done.stdout + done.stderr).split())[-500:])
    return names


def make_pool(concurrent_runs: int) -> None:
    """Make the work pool of processes, or renew its limit."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    pool = WorkPoolCreate(name=POOL, type="process", concurrency_limit=concurrent_runs)
    with get_client(sync_client=True) as client:
        client.create_work_pool(pool, overwrite=True)

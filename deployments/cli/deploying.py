"""Commands for a Prefect server with workers: deploy, settings."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from deployments.cli.options import DEFAULT_DISPLAY, DEFAULTS, Common, Display, find_site
from deployments.cli.output import Answer
from deployments.deploy import CONCURRENT_RUNS, POOL


def deploy(
    *,
    code: Annotated[Path, Parameter(name="--code", help="Folder of the checkout, with prefect.yaml.")] = Path(),
    limit: Annotated[int, Parameter(name="--limit", help="How many runs may go on at once.")] = CONCURRENT_RUNS,
    common: Common = DEFAULTS,
) -> Answer:
    """Deploy to the Prefect server that PREFECT_API_URL names: work pool, blocks, automations, limits, deployments."""
    from deployments.deploy import deploy as deploy_all

    names = deploy_all(find_site(common).site, code.absolute(), concurrent_runs=limit)
    start = f"prefect worker start --pool {POOL}"
    return Answer(
        {"command": "deploy", "deployments": list(names), "pool": POOL},
        (f"deployed: {', '.join(names)}", f"start workers with: {start}"),
    )


def settings(who: Literal["server", "worker"], /, *, display: Display = DEFAULT_DISPLAY) -> Answer:  # noqa: ARG001
    """Print the settings of Prefect for a server or a worker of your own, as lines for a shell."""
    from deployments.server_settings import CLIENT, SERVER

    chosen = SERVER if who == "server" else CLIENT
    lines = [f"export {name}={value}" for name, value in chosen.items()]
    return Answer({"command": "settings", "settings": chosen}, lines)

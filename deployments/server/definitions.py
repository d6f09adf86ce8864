"""The deployments, read from ``prefect.yaml``, which alone declares them.

``prefect deploy --all`` and ``gw-workflow deploy`` register them for the workers of a pool; ``gw-workflow serve`` runs
them in its own process.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

DECLARATION = Path(__file__).with_name("prefect.yaml")
"""A link to the file at the root of the checkout; an installed package holds a copy."""

WATCH_INCOMING = "watch-incoming"
"""The deployment whose work ``gw-workflow serve`` does in a thread: its schedule is off there."""


class Definition(BaseModel):
    """One deployment as ``prefect.yaml`` declares it, without its work pool."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    name: str
    """Name of the deployment."""
    entrypoint: str
    """File and name of the flow: ``flows/night.py:process_night``."""
    description: str
    """Purpose, shown on Prefect's pages."""
    tags: tuple[str, ...] = ()
    """Tags, shown on Prefect's pages."""
    parameters: dict[str, Any] = {}
    """Default parameters of its runs."""
    triggers: tuple[dict[str, Any], ...] = ()
    """Event triggers."""
    schedules: tuple[dict[str, Any], ...] = ()
    """Schedules."""
    concurrency_limit: dict[str, Any] | None = None
    """Number of concurrent runs and what to do with further ones."""

    def load_flow(self) -> "Flow[..., Any]":
        """Import the flow."""
        path, _, name = self.entrypoint.partition(":")
        return getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)


def read_definitions(path: Path = DECLARATION) -> tuple[Definition, ...]:
    """Read the deployments that a file such as ``prefect.yaml`` declares."""
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(Definition.model_validate(item) for item in declared["deployments"])


DEFINITIONS = read_definitions()
"""All deployments of the project."""


def served_definition(definition: Definition) -> Definition:
    """Return a deployment as it is served: ``serve`` itself does the work of ``watch-incoming``."""
    if definition.name != WATCH_INCOMING:
        return definition
    return definition.model_copy(update={"schedules": tuple(s | {"active": False} for s in definition.schedules)})


def served_deployment(definition: Definition, site: str, *, paused: bool = False) -> "RunnerDeployment":
    """Return a deployment whose runs are started by the process that serves it.

    Parameters
    ----------
    definition
        The deployment.
    site
        Name or folder of the site, the default of the parameter ``site``.
    paused
        Whether its schedules are paused.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import EntrypointType, RunnerDeployment
    from prefect.events import DeploymentTriggerTypes
    from prefect.schedules import Schedule

    limit = definition.concurrency_limit
    triggers = TypeAdapter(list[DeploymentTriggerTypes]).validate_python(definition.triggers)
    return RunnerDeployment.from_flow(
        definition.load_flow(),
        name=definition.name,
        description=definition.description,
        tags=list(definition.tags),
        parameters=definition.parameters | {"site": site},
        triggers=[*triggers],
        schedules=TypeAdapter(list[Schedule]).validate_python(definition.schedules) or None,
        concurrency_limit=ConcurrencyLimitConfig.model_validate(limit) if limit else None,
        paused=paused,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )

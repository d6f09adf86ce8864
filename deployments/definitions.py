"""The deployments: which flows can be started from Prefect's pages, by events, by schedule, and how many at once.

``prefect.yaml`` declares the same for a Prefect server with workers; a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blocks.nights import EVENT_NAME

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

PAYLOAD = {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": "{{ event.payload | tojson }}"}}
"""The whole payload of an event as one parameter: lists stay lists, and a bad one gives a visible failed run."""


@dataclass(frozen=True)
class Schedule:
    """When a deployment runs by itself, once somebody switches that on.

    Attributes
    ----------
    cron, timezone
        When.
    slug
        Name of the schedule.
    parameters
        Parameters of its runs.
    """

    cron: str
    timezone: str
    slug: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """One deployment.

    Attributes
    ----------
    name
        Name of the deployment.
    flow
        Module and name of the flow.
    description
        What it does, for the pages.
    event
        Name of the event that starts it; its parameter ``event`` receives the payload. None if none does.
    resource
        Pattern of the resources whose events count.
    limit
        How many of its runs may go on at once; the others wait.
    schedule
        An example of a schedule, switched off; None if there is none.
    """

    name: str
    flow: str
    description: str
    event: str | None = None
    resource: str = "*"
    limit: int | None = None
    schedule: Schedule | None = None

    @property
    def entrypoint(self) -> str:
        """File and name of the flow, as ``prefect.yaml`` writes them."""
        module, _, name = self.flow.rpartition(".")
        return f"{module.replace('.', '/')}.py:{name}"

    def trigger(self) -> dict[str, Any] | None:
        """Return the event trigger as ``prefect.yaml`` writes it."""
        if self.event is None:
            return None
        return {
            "type": "event",
            "expect": [self.event],
            "match": {"prefect.resource.id": self.resource},
            "parameters": {"event": PAYLOAD},
        }


DEFINITIONS = (
    Definition(
        "process-night",
        "flows.night.process_night",
        "Process a registered night: its exposures, their differences, the ranked candidates.",
        event=EVENT_NAME,
        resource="gw.night.*",
        limit=1,
        schedule=Schedule("30 9 * * *", "America/Santiago", "every-morning"),
    ),
    Definition(
        "process-exposure",
        "flows.exposure.process_exposure",
        "Process one exposure through all stages.",
        limit=2,
    ),
    Definition(
        "single-epoch", "flows.single_epoch.single_epoch", "From raw exposure to images and catalogues.", limit=2
    ),
    Definition(
        "calibration", "flows.calibration.calibration", "Match to the reference stars; solve the zero points.", limit=2
    ),
    Definition("verification", "flows.verification.verification", "Look into every product and grade it.", limit=2),
    Definition("difference", "flows.difference.difference", "Subtract templates and find what has changed.", limit=2),
)
"""Every deployment of the project."""


def load_flow(definition: Definition) -> Any:  # noqa: ANN401
    """Import the flow of a deployment."""
    module, _, name = definition.flow.rpartition(".")
    return getattr(import_module(module), name)


def served_deployment(definition: Definition, site: str) -> "RunnerDeployment":
    """Return a deployment whose runs are done by the process that serves it.

    Parameters
    ----------
    definition
        What it is.
    site
        Name or folder of the site, the default of the parameter ``site``.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import EntrypointType
    from prefect.events import DeploymentEventTrigger
    from prefect.schedules import Cron

    schedule, limit = definition.schedule, definition.limit
    triggers = []
    if definition.event is not None:
        triggers.append(
            DeploymentEventTrigger(
                name=f"{definition.name}-on-event",
                expect={definition.event},
                match={"prefect.resource.id": definition.resource},
                parameters={"event": PAYLOAD},
            )
        )
    return load_flow(definition).to_deployment(
        name=definition.name,
        description=definition.description,
        parameters={"site": site},
        triggers=triggers,
        schedules=[
            Cron(
                schedule.cron,
                timezone=schedule.timezone,
                slug=schedule.slug,
                active=False,
                parameters=dict(schedule.parameters),
            )
        ]
        if schedule
        else None,
        concurrency_limit=ConcurrencyLimitConfig(limit=limit, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
        if limit
        else None,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )

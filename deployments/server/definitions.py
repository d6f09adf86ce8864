"""The deployments: which flows can be started from Prefect's pages, by events, by schedule, and how many at once.

``prefect.yaml`` declares the same for a Prefect server with workers; a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blocks.nights import EVENT_NAME
from blocks.plans import EVENT_NAME as PLANNED
from blocks.skymaps import EVENT_NAME as NEW_MAP
from deployments.events.watching import ARRIVED

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


def from_event(what: str) -> dict[str, Any]:
    """Return a parameter that is taken from the event as a whole: lists stay lists, a bad one gives a failed run.

    Parameters
    ----------
    what
        What is taken: ``event.payload``, or a part of it.
    """
    return {
        "__prefect_kind": "json",
        "value": {"__prefect_kind": "jinja", "template": "{{ " + what + " | tojson }}"},
    }


@dataclass(frozen=True)
class Schedule:
    """When a deployment runs by itself.

    Attributes
    ----------
    cron, timezone
        When.
    slug
        Name of the schedule.
    active
        Whether it is on from the beginning on a server with workers.
    served
        Whether it is on where a site is served; not what the serving process does itself.
    """

    cron: str
    timezone: str
    slug: str
    active: bool = True
    served: bool = True


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
        Name of the event that starts it; None if none does.
    resource
        Pattern of the resources whose events count.
    given
        Parameters that are taken from the event, with what is taken.
    limit
        How many of its runs may go on at once; the others wait.
    schedule
        When it runs by itself; None if never.
    tags
        Tags, to find it on the pages.
    """

    name: str
    flow: str
    description: str
    event: str | None = None
    resource: str = "*"
    given: Mapping[str, str] = field(default_factory=lambda: {"event": "event.payload"})
    limit: int | None = None
    schedule: Schedule | None = None
    tags: tuple[str, ...] = ()

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
            "name": f"{self.name}-on-event",
            "description": f"{self.event} starts {self.name}",
            "match": {"prefect.resource.id": self.resource},
            "parameters": self.event_parameters(),
        }

    def event_parameters(self) -> dict[str, Any]:
        """Return the parameters that are taken from the event."""
        return {name: from_event(what) for name, what in self.given.items()}


DEFINITIONS = (
    Definition(
        "process-night",
        "flows.night.process_night",
        "Process a registered night: its exposures, their differences, the ranked candidates.",
        event=EVENT_NAME,
        resource="gw.night.*",
        limit=1,
        tags=("night",),
    ),
    Definition(
        "process-exposure",
        "flows.exposure.process_exposure",
        "Process one exposure through all stages.",
        event=ARRIVED,
        resource="gw.exposure.*",
        given={"exposure": "event.payload.exposure"},
        limit=2,
        tags=("exposure",),
    ),
    Definition(
        "rank-night",
        "flows.ranking.rank_night",
        "Rank the candidates of a processed night on a new sky map; no pixel is touched.",
        event=NEW_MAP,
        resource="gw.night.*",
        limit=1,
        tags=("night",),
    ),
    Definition(
        "watch-incoming",
        "deployments.maintenance.scheduled.watch_incoming",
        "Announce registered nights, and raw exposures that arrive late.",
        limit=1,
        schedule=Schedule("*/10 * * * *", "UTC", "every-ten-minutes", served=False),
        tags=("upkeep",),
    ),
    Definition(
        "housekeeping",
        "deployments.maintenance.scheduled.housekeeping",
        "Remove intermediate products of old exposures, old scratch files and useless records.",
        limit=1,
        schedule=Schedule("0 15 * * *", "America/Santiago", "every-afternoon"),
        tags=("upkeep",),
    ),
    Definition(
        "single-epoch",
        "flows.single_epoch.single_epoch",
        "From raw exposure to images and catalogues.",
        limit=2,
        tags=("stage",),
    ),
    Definition(
        "calibration",
        "flows.calibration.calibration",
        "Match to the reference stars; solve the zero points.",
        limit=2,
        tags=("stage",),
    ),
    Definition(
        "verification",
        "flows.verification.verification",
        "Look into every product and grade it.",
        limit=2,
        tags=("stage",),
    ),
    Definition(
        "difference",
        "flows.difference.difference",
        "Subtract templates and find what has changed.",
        limit=2,
        tags=("stage",),
    ),
    Definition(
        "prepare-templates",
        "flows.preparation.prepare_templates",
        "Process the templates of planned pointings before the shutter opens.",
        event=PLANNED,
        resource="gw.night.*",
        limit=1,
        schedule=Schedule("30 17 * * *", "America/Santiago", "at-dusk"),
        tags=("night",),
    ),
    Definition(
        "export",
        "flows.export.export_exposure",
        "Write the products of an exposure under the names and in the formats of the original.",
        limit=2,
        tags=("exposure",),
    ),
    Definition(
        "build-calibrations",
        "flows.build_calibrations.build_calibrations",
        "Build bias, dome flats and bad-pixel maps from the raw exposures of a night.",
        limit=1,
        tags=("preparation",),
    ),
    Definition(
        "build-sky-modes",
        "flows.build_sky_modes.build_sky_modes",
        "Build the sky modes of a band from exposures that have been detrended.",
        limit=1,
        tags=("preparation",),
    ),
    Definition(
        "build-star-flat",
        "flows.build_star_flat.build_star_flat",
        "Build the star flat of a band from exposures that have been calibrated.",
        limit=1,
        tags=("preparation",),
    ),
    Definition(
        "reference-catalogue",
        "flows.reference_catalogue.reference_catalogue",
        "Build a reference catalogue from the tables of an archive.",
        limit=1,
        tags=("preparation",),
    ),
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
                description=f"{definition.event} starts {definition.name}",
                expect={definition.event},
                match={"prefect.resource.id": definition.resource},
                parameters=definition.event_parameters(),
            )
        )
    return load_flow(definition).to_deployment(
        name=definition.name,
        description=definition.description,
        tags=list(definition.tags),
        parameters={"site": site},
        triggers=triggers,
        schedules=[
            Cron(
                schedule.cron,
                timezone=schedule.timezone,
                slug=schedule.slug,
                active=schedule.active and schedule.served,
            )
        ]
        if schedule
        else None,
        concurrency_limit=ConcurrencyLimitConfig(limit=limit, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
        if limit
        else None,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )

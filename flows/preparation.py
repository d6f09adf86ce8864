"""Preparation: process the templates of planned pointings before the observations.

plan -> every template once, through its stages
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from blocks.folders import load_site
from blocks.plans import PointingPlan, read_plan
from blocks.site import Site
from flows.exposure import process_exposure
from flows.settings import NightSettings
from flows.side_by_side import run_side_by_side
from imaging.exposure import night_of
from imaging.io.pointings import Pointing
from tasks.engine.final_state import keep_result
from tasks.engine.task_runner import NOBODY_WAITS, ComputeTaskRunner, with_options
from tasks.prepare_templates import known_exposures, mjd_of_night, plan_preparation, preparation_state
from tasks.requests import ExposureRequest, Name, Night, NightEvent
from tasks.tidy import remove_intermediates

UNIX_EPOCH_MJD = 40587.0


def chosen_night(night: int | None, event: Mapping[str, Any] | None) -> int:
    """Return the night given by number or by the payload of an event; otherwise the current or coming night."""
    if night is None and event is None:
        return night_of(time.time() / 86400.0 + UNIX_EPOCH_MJD)
    return NightEvent.night_of(night, event)


def name_run() -> str:
    """Return the name of a run: that of its night, however the run was started."""
    night, event = flow_run.parameters.get("night"), flow_run.parameters.get("event")
    if night is None and event is None:
        night = chosen_night(night, event)
    return NightEvent.run_name("prepare-templates", {"night": night, "event": event}, None)


@keep_result
@flow(name="prepare-templates", flow_run_name=name_run, task_runner=ComputeTaskRunner())
def prepare_templates(
    pointings: Annotated[Sequence[Pointing], Field(min_length=1)] | None = None,
    night: Night | None = None,
    exposure_list: Name | None = None,
    event: dict[str, Any] | None = None,
    site: str = "default",
    overwrite: bool = False,
    settings: NightSettings = NightSettings(),
) -> State[dict[str, Any]]:
    """Process the templates of planned pointings, so that the run of the night finds them cached.

    Args:
        pointings: RA, Dec and band of the planned exposures; None for the stored plan of the night.
        night: Night of the plan, YYYYMMDD, to which the time windows for templates refer. None for the night of the
            event, otherwise the current or coming night.
        exposure_list: Exposure list to choose templates from; None for all exposures with raw files at the site.
        event: Payload of the event of a plan.
        site: Name or folder of the site.
        overwrite: Recompute cached steps.
        settings: Settings of the night: version, stages of every exposure, choice of templates.

    Raises:
        InputError: If the exposure list cannot be read, or there are no exposures to choose from.
    """
    place = load_site(site).storing_in(settings.version.destination)
    number = chosen_night(night, event)
    planned = given_plan(place, number, pointings, exposure_list)
    if planned is None:
        return Completed(message=f"nothing is planned for night {number}")
    listed = known_exposures(place, None if planned.exposure_list is None else Path(planned.exposure_list))
    rules = settings.difference.templates
    plan = plan_preparation(planned.pointings, mjd_of_night(number), listed, settings.version, rules)
    run = with_options(process_exposure, priority=NOBODY_WAITS)

    def process(request: ExposureRequest) -> State[Any]:
        state: State[Any] = run(request, site, overwrite=overwrite, settings=settings.exposure, return_state=True)
        if settings.tidy.enabled:
            remove_intermediates(request.exposure_id(), place)
        return state

    return preparation_state(plan, run_side_by_side(process, plan.exposures, settings.concurrent_exposures))


def given_plan(
    place: Site, night: int, pointings: Sequence[Pointing] | None, exposure_list: str | None
) -> PointingPlan | None:
    """Return the plan with the given pointings, or the stored plan of the night; None if there is neither."""
    if pointings is None:
        return read_plan(place, night)
    return PointingPlan(night=night, pointings=tuple(pointings), exposure_list=exposure_list)

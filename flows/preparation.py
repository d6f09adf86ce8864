"""Preparation: process the templates of planned pointings before the shutter opens.

plan -> every template once, through its stages
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

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
from tasks.requests import NightEvent

UNIX_EPOCH_MJD = 40587.0


def chosen_night(night: int | None, event: Mapping[str, Any] | None) -> int:
    """Return the night that was asked for, by number or by the payload of an event; the one that begins or goes on."""
    if night is None and event is None:
        return night_of(time.time() / 86400.0 + UNIX_EPOCH_MJD)
    return NightEvent.night_of(night, event)


def name_run() -> str:
    """Name a run after its night, whoever has asked for it."""
    parameters = flow_run.parameters
    return f"prepare-templates-{chosen_night(parameters.get('night'), parameters.get('event'))}"


@keep_result
@flow(name="prepare-templates", flow_run_name=name_run, task_runner=ComputeTaskRunner())
def prepare_templates(
    pointings: Sequence[Pointing] | None = None,
    night: int | None = None,
    exposure_list: str | None = None,
    event: dict[str, Any] | None = None,
    site: str = "default",
    overwrite: bool = False,
    settings: NightSettings = NightSettings(),
) -> State[dict[str, Any]]:
    """Process the exposures that planned pointings will be compared with; the night then finds them done.

    Args:
        pointings: RA, Dec and band of the planned exposures; None for those that the site keeps for the night.
        night: Night for which they are planned, YYYYMMDD: the time windows of the choice count from it. None for that
            of the event, or else the one that begins or goes on now.
        exposure_list: File that lists the exposures to choose from; None for all whose raw files the site has.
        event: Payload of the event of a plan.
        site: Name or folder of the site.
        overwrite: Recompute cached steps.
        settings: Those of the night: its version, the stages of every exposure, the rules of the choice.

    Raises
    ------
        InputError: If the exposure list cannot be read, or there is no exposure to choose from.
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
    processed = run_side_by_side(
        lambda request: run(request, site, overwrite=overwrite, settings=settings.exposure, return_state=True),
        plan.exposures,
        settings.concurrent_exposures,
    )
    return preparation_state(plan, processed)


def given_plan(
    place: Site, night: int, pointings: Sequence[Pointing] | None, exposure_list: str | None
) -> PointingPlan | None:
    """Return the plan that was asked for, or the one that the site keeps for the night; None if there is neither."""
    if pointings is None:
        return read_plan(place, night)
    return PointingPlan(night=night, pointings=tuple(pointings), exposure_list=exposure_list)

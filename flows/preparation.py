"""Preparation: process the templates of planned pointings before the shutter opens.

plan -> every template once, through its stages
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from flows.described import described
from flows.exposure import process_exposure
from flows.settings import NightSettings
from flows.side_by_side import run_side_by_side
from imaging.io.pointings import Pointing
from tasks.preparation import known_exposures, mjd_of_night, plan_preparation, preparation_verdict


@described
@flow(name="prepare-templates", flow_run_name="prepare-templates-{night}", task_runner=ComputeTaskRunner())
def prepare_templates(
    pointings: Sequence[Pointing],
    night: int,
    exposure_list: str | None = None,
    site: str = "default",
    settings: NightSettings = NightSettings(),
    overwrite: bool = False,
) -> State[dict[str, Any]]:
    """Process the exposures that planned pointings will be compared with; the night then finds them done.

    Parameters
    ----------
    pointings
        RA, Dec and band of the planned exposures.
    night
        Night for which they are planned, YYYYMMDD: the time windows of the choice count from it.
    exposure_list
        File that lists the exposures to choose from; None for all whose raw files the site has.
    site
        Name or folder of the site.
    settings
        Those of the night: its version, the stages of every exposure, the rules of the choice.
    overwrite
        Whether to compute what is known to be done.

    Raises
    ------
    InputError
        If the exposure list cannot be read, or there is no exposure to choose from.
    """
    place = load_site(site).storing_in(settings.version.destination)
    listed = known_exposures(place, None if exposure_list is None else Path(exposure_list))
    rules = settings.difference.templates
    plan = plan_preparation(pointings, mjd_of_night(night), listed, settings.version, rules)
    processed = run_side_by_side(
        lambda exposure: process_exposure(exposure, site, settings.exposure, overwrite=overwrite, return_state=True),
        plan.exposures,
        settings.concurrent_exposures,
    )
    return preparation_verdict(plan, processed)

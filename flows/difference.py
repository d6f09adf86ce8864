"""Difference imaging: what has changed since the templates were taken.

choose templates for every CCD -> map difference (stack, subtract, detect, fakes) -> gather the quality numbers
"""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from flows.described import described
from flows.settings import DifferenceSettings
from tasks.difference import difference as difference_step
from tasks.difference import difference_job
from tasks.exhibits import exhibit_difference
from tasks.gather import gather, gather_job
from tasks.records import StepJob
from tasks.requests import ExposureRequest
from tasks.stage import Stage
from tasks.templates import choose, choose_job, chosen_templates, processed_exposures, summaries_of


@described
@flow(name="difference", flow_run_name="difference-{exposure.expnum}", task_runner=ComputeTaskRunner())
def difference(
    exposure: ExposureRequest,
    site: str = "default",
    settings: DifferenceSettings = DifferenceSettings(),
    ccds: tuple[int, ...] | None = None,
    templates: Sequence[ExposureRequest] | None = None,
    overwrite: bool = False,
) -> State[dict[str, Any]]:
    """Search the verified CCDs of an exposure.

    Parameters
    ----------
    exposure
        The search exposure, and the season under which its products are filed.
    site
        Name or folder of the site.
    settings
        How it is done.
    ccds
        CCDs to search; None for all that verification has passed.
    templates
        Exposures to choose from; None for all processed ones of the same band and version.
    overwrite
        Whether to compute what is known to be done.

    Raises
    ------
    InputError
        If the exposure has not been verified.
    """
    place = load_site(site).storing_in(exposure.destination)
    who, season = exposure.exposure_id(), exposure.season
    stage = Stage("difference", StepJob(exposure=who, site=place), overwrite=overwrite)
    offered = processed_exposures(place, who) if templates is None else [request.exposure_id() for request in templates]

    job = choose_job(who, offered, season, place, settings.templates)
    known = summaries_of([who, *offered], place)
    wanted = tuple(known[who.expnum][1].usable) if ccds is None else ccds
    if stage.run(choose, job, wanted) is None:
        return stage.verdict(())
    chosen = chosen_templates(job)
    jobs = stage.plan(
        "difference",
        wanted,
        lambda ccd: difference_job(who, ccd, chosen.get(ccd, ()), known, season, place, settings.search),
    )
    searched = stage.map(difference_step, jobs)
    if not searched:
        return stage.verdict(())
    gathered = stage.run(gather, gather_job(searched, who, season, place), searched)
    if gathered is not None:
        exhibit_difference(who, season, place)
    return stage.verdict(searched, exposure=gathered.quality if gathered else {})

"""Difference imaging: search for transients and variables relative to the templates.

choose templates for every CCD -> map difference (stack, subtract, detect, fakes) -> collect the quality numbers

In a night, a CCD is searched as soon as its own templates are processed.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic.json_schema import SkipJsonSchema

from blocks.folders import load_site
from flows.settings import DifferenceStageSettings
from tasks.artifacts import show_difference
from tasks.choose_templates import choose_templates, chosen_templates, processed_exposures
from tasks.collect_quality import collect_quality, collect_quality_job
from tasks.difference import CcdSearch, ReadyCcds
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.products import read_summary, summary_path
from tasks.requests import Ccds, ExposureRequest


@keep_result
@flow(name="difference", flow_run_name="difference-{exposure.expnum}", task_runner=ComputeTaskRunner())
def difference(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    templates: Sequence[ExposureRequest] | None = None,
    overwrite: bool = False,
    settings: DifferenceStageSettings = DifferenceStageSettings(),
    ready: Annotated[Any, SkipJsonSchema()] = ReadyCcds(),  # noqa: ANN401 (pydantic knows no schema of its class)
) -> State[dict[str, Any]]:
    """Search the verified CCDs of an exposure.

    Args:
        exposure: The search exposure, and the season of its products.
        site: Name or folder of the site.
        ccds: CCDs to search; None for all that passed verification.
        templates: Exposures to choose templates from; None for all processed ones of the same band and version.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.
        ready: For a caller in whose process templates are still being processed: CCDs that can be searched already.

    Raises:
        InputError: If the exposure has not been verified.
    """
    place = load_site(site).storing_in(exposure.destination)
    who, season = exposure.exposure_id(), exposure.season
    stage = Stage("difference", StepJob(exposure=who, site=place), overwrite=overwrite)
    offered = processed_exposures(place, who) if templates is None else [request.exposure_id() for request in templates]
    wanted = tuple(read_summary(summary_path(who, place), who.expnum).usable) if ccds is None else ccds

    search = CcdSearch(stage, exposure, wanted, offered, settings.templates, settings.search)
    for batch in ready.batches():
        search.search_ahead(batch)
    job = search.choose_templates_job()
    if stage.run(choose_templates, job, wanted) is None:
        return stage.final_state(())
    searched = search.search_rest(chosen_templates(job))
    if not searched:
        return stage.final_state(())
    collected = stage.run(collect_quality, collect_quality_job(searched, who, season, place), searched)
    if collected is not None:
        show_difference(who, season, place)
    return stage.final_state(searched, exposure=collected.quality if collected else {})

"""A night: from registered exposures to a ranked list of candidates.

plan -> every exposure once (templates, then search exposures) -> difference of every search exposure
-> associate the detections of all -> map forced photometry -> rank against the sky map
"""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from blocks.nights import RegisteredNight, read_night
from blocks.site import Site
from flows.concurrent import run_side_by_side
from flows.difference import difference
from flows.exposure import process_exposure
from flows.settings import NightSettings
from tasks.associate import SearchedCcd, associate, associate_job
from tasks.exhibits import exhibit_night
from tasks.force import force, force_job
from tasks.night_plan import plan_night, searched_ccds
from tasks.rank import rank, rank_job
from tasks.requests import ExposureRequest, NightEvent
from tasks.stage import Stage
from tasks.verdict import night_verdict


def name_run() -> str:
    """Name a run after its night, whoever has asked for it."""
    parameters = flow_run.parameters
    return f"process-night-{NightEvent.night_of(parameters.get('night'), parameters.get('event'))}"


@flow(name="process-night", flow_run_name=name_run, task_runner=ComputeTaskRunner())
def process_night(
    night: int | None = None,
    event: dict[str, Any] | None = None,
    site: str = "default",
    settings: NightSettings = NightSettings(),
    overwrite: bool = False,
) -> State[dict[str, Any]]:
    """Process a registered night.

    Parameters
    ----------
    night
        Night, YYYYMMDD; None if the event names it.
    event
        Payload of the event that registered the night.
    site
        Name or folder of the site.
    settings
        How it is done, stage by stage.
    overwrite
        Whether to compute what is known to be done.

    Raises
    ------
    InputError
        If the night is not registered, or neither night nor event is given.
    """
    place = load_site(site).storing_in(settings.version.destination)
    registered = read_night(place, NightEvent.night_of(night, event))
    registered.mark_started()
    what = f"night {registered.record.night}"
    plan = plan_night(registered, settings.version, settings.difference.templates)

    processed = run_side_by_side(
        lambda exposure: process_exposure(exposure, site, settings.exposure, overwrite=overwrite, return_state=True),
        plan.all,
        settings.concurrent_exposures,
    )
    ready = [exposure for exposure in plan.search if processed[exposure.expnum].is_completed()]
    searched = run_side_by_side(
        lambda exposure: difference(
            exposure,
            site,
            settings.difference,
            templates=plan.templates[exposure.expnum],
            overwrite=overwrite,
            return_state=True,
        ),
        ready,
        settings.concurrent_exposures,
    )
    done = [exposure for exposure in ready if searched[exposure.expnum].is_completed()]

    stage = Stage("candidates", what, overwrite=overwrite)
    summary = find_candidates(stage, registered, done, searched_ccds(done, plan, place), place, settings)
    return night_verdict(what, processed, searched, stage.others, summary)


def find_candidates(
    stage: Stage,
    registered: RegisteredNight,
    exposures: Sequence[ExposureRequest],
    ccds: Sequence[SearchedCcd],
    place: Site,
    settings: NightSettings,
) -> dict[str, Any]:
    """Associate the detections of searched CCDs, force photometry at them all, and rank them.

    Parameters
    ----------
    stage
        What has failed or was left out is noted there.
    registered
        The night.
    exposures, ccds
        What has been searched.
    place
        Where products are.
    settings
        How it is done.

    Returns
    -------
    summary
        Quality numbers of the ranked list; empty if there is none.
    """
    if not ccds:
        return {}
    associated = stage.run(associate, associate_job(ccds, registered.record.night, place, settings.candidates), ())
    if associated is None:
        return {}
    jobs = [
        force_job(who.exposure_id(), item.ccd, who.season, associated, place, settings.difference.search)
        for who in exposures
        for item in ccds
        if item.expnum == who.expnum
    ]
    forced = stage.map_all(force, jobs)
    ranked = stage.run(rank, rank_job(registered, associated, forced, ccds, place, settings.candidates), ())
    if ranked is None:
        return {}
    exhibit_night(registered, place)
    return dict(ranked.quality)

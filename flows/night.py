"""A night: from registered exposures to a ranked list of candidates.

plan -> every exposure once: the one nearest to the sky map's peak first, preceded by its templates; the difference of
each search CCD as soon as the templates that overlap it are processed
-> associate all detections -> map forced photometry -> rank with the sky map
-> whenever an exposure is processed: remove its intermediate images
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from blocks.folders import load_site
from blocks.night_runs import PROCESS, list_lock, recorded_run
from blocks.nights import RegisteredNight, read_night
from blocks.site import Site
from flows.difference import difference
from flows.exposure import process_exposure
from flows.settings import NightSettings
from flows.side_by_side import run_as_they_come
from tasks.announce_candidates import announce_candidates
from tasks.artifacts import show_candidates, show_night_summary
from tasks.associate import SearchedCcd, associate, associate_job
from tasks.difference import ReadyCcds
from tasks.disk import check_room
from tasks.engine.final_state import keep_result
from tasks.engine.limits import slot
from tasks.engine.progress import Listener, progress_artifact
from tasks.engine.replay import is_replaying
from tasks.engine.stage import Stage
from tasks.engine.step import run_logger
from tasks.engine.task_runner import ComputeTaskRunner, with_options
from tasks.forced_photometry import forced_photometry, forced_photometry_job
from tasks.jobs import StepJob
from tasks.night_plan import (
    NightPlan,
    exposures_at_hand,
    night_state,
    night_work,
    plan_night,
    searched_ccds,
    urgency_of,
)
from tasks.rank import rank, rank_job
from tasks.requests import ExposureRequest, Night, NightEvent
from tasks.steps import WRITE_NIGHTS
from tasks.tidy import remove_intermediates


def name_run() -> str:
    """Return the name of a run: that of its night, however the run was started."""
    return NightEvent.run_name("process-night", flow_run.parameters, flow_run.name)


@keep_result
@flow(name="process-night", flow_run_name=name_run, task_runner=ComputeTaskRunner())
def process_night(
    night: Night | None = None,
    event: dict[str, Any] | None = None,
    site: str = "default",
    overwrite: bool = False,
    settings: NightSettings = NightSettings(),
) -> State[dict[str, Any]]:
    """Process a registered night.

    Args:
        night: Night, YYYYMMDD; None if the event names it.
        event: Payload of the event that registered the night.
        site: Name or folder of the site.
        overwrite: Recompute cached steps.
        settings: Settings of all stages.

    Raises:
        InputError: If the night is not registered, or neither night nor event is given.
    """
    place = load_site(site).storing_in(settings.version.destination)
    registered = read_night(place, NightEvent.night_of(night, event))
    at_hand, partial = exposures_at_hand(registered, place)
    with recorded_run(registered, PROCESS, flow_run.id, exposures=at_hand, partial=partial, at_end=is_replaying()):
        return process_registered(registered, at_hand, place, site, settings, overwrite=overwrite)


def process_registered(
    registered: RegisteredNight,
    at_hand: Sequence[int],
    place: Site,
    site: str,
    settings: NightSettings,
    *,
    overwrite: bool,
) -> State[dict[str, Any]]:
    """Process all exposures of a night, and rank its candidates with the sky map that is the newest then.

    Parameters
    ----------
    registered, at_hand
        The night, and its exposures whose raw files have arrived.
    place
        Site with the products.
    site, settings, overwrite
        As in :func:`process_night`.
    """
    what = f"night {registered.record.night}"
    plan = plan_night(registered, settings.version, settings.difference.templates, place)
    plan = replace(plan, urgency=urgency_of(registered, at_hand))
    room = check_room(plan, place, settings.concurrent_exposures, tidies=settings.tidy.enabled)
    if room.needed_gb(tidies=settings.tidy.enabled) > room.free_gb:
        run_logger().warning("%s will not fit on the disk with all its exposures: %s", what, room.sentence())
    search = [exposure.expnum for exposure in plan.search]
    work = night_work(registered.record.night, [e.expnum for e in plan.all], search)
    with progress_artifact(what, work) as listener:
        processed, searched = run_stages(plan, site, settings, listener, overwrite=overwrite)
        done = [e for e in plan.search if e.expnum in searched and searched[e.expnum].is_completed()]
        stage = Stage("candidates", StepJob(night=registered.record.night, site=place), overwrite=overwrite)
        with slot(WRITE_NIGHTS), list_lock(registered):
            summary = find_candidates(stage, registered, done, searched_ccds(done, plan, place), place, settings)
    state = night_state(what, processed, searched, stage.others, summary)
    show_night_summary(registered.record.night, state, time.process_time())
    return state


def run_stages(
    plan: NightPlan,
    site: str,
    settings: NightSettings,
    listener: Listener | None,
    *,
    overwrite: bool,
) -> tuple[dict[int, State[Any]], dict[int, State[Any]]]:
    """Process every exposure of a night, and search each CCD as soon as its exposure and its templates are processed.

    Parameters
    ----------
    plan
        The plan of the night.
    site, settings, overwrite
        As in :func:`process_night`.
    listener
        Listener of progress; None for none.

    Returns
    -------
    processed, searched
        Exposure number to the final state of its stages, and of its difference.
    """
    priority = plan.priorities

    def process(exposure: ExposureRequest) -> State[Any]:
        run = with_options(process_exposure, priority=priority[exposure.expnum], listener=listener)
        state = run(exposure, site, overwrite=overwrite, settings=settings.exposure, return_state=True)
        if settings.tidy.enabled and not is_replaying():
            remove_intermediates(exposure.exposure_id(), load_site(site).storing_in(exposure.destination))
        return state

    def search(exposure: ExposureRequest, running: Iterable[frozenset[int]]) -> State[Any]:
        run = with_options(difference, priority=priority[exposure.expnum], listener=listener)
        return run(
            exposure,
            site,
            templates=plan.templates[exposure.expnum],
            overwrite=overwrite,
            settings=settings.difference,
            ready=ReadyCcds(plan.ready(exposure.expnum, left) for left in running),
            return_state=True,
        )

    needs = {expnum: [template.expnum for template in templates] for expnum, templates in plan.templates.items()}
    return run_as_they_come(process, plan.all, search, needs, settings.concurrent_exposures)


def find_candidates(
    stage: Stage,
    registered: RegisteredNight,
    exposures: Sequence[ExposureRequest],
    ccds: Sequence[SearchedCcd],
    place: Site,
    settings: NightSettings,
) -> dict[str, Any]:
    """Associate the detections of searched CCDs, measure forced photometry of all candidates, and rank them.

    Parameters
    ----------
    stage
        Stage in which failures are recorded.
    registered
        The night.
    exposures, ccds
        Searched exposures and CCDs.
    place
        Site with the products.
    settings
        Settings of the night.

    Returns
    -------
    summary
        Quality numbers of the ranked list; empty if there is no list.
    """
    if not ccds:
        return {}
    associated = stage.run(associate, associate_job(ccds, registered.record.night, place, settings.candidates), ())
    if associated is None:
        return {}
    jobs = [
        forced_photometry_job(who.exposure_id(), item.ccd, who.season, associated, place, settings.difference.search)
        for who in exposures
        for item in ccds
        if item.expnum == who.expnum
    ]
    forced = stage.map_all(forced_photometry, jobs)
    upstream = {"exposure": settings.exposure, "difference": settings.difference}
    registered = read_night(place, registered.record.night)  # the sky map may be newer than this run
    job = rank_job(registered, associated, forced, ccds, place, settings.candidates, upstream)
    ranked = stage.run(rank, job, ())
    if ranked is None:
        return {}
    show_candidates(registered, place)
    announce_candidates(registered, place)
    return dict(ranked.quality)

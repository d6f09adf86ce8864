"""Ranking: rank the candidates of a processed night again, with another sky map or other weights.

store the new map -> rank from the night's tables -> list, pages and pictures
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from blocks.folders import load_site
from blocks.gw_events import is_retracted
from blocks.night_runs import RANK, list_lock, recorded_run
from blocks.nights import read_night
from blocks.site import Destination
from blocks.skymaps import adopt_skymap
from imaging.candidates.settings import CandidateSettings
from tasks.announce_candidates import announce_candidates
from tasks.artifacts import show_candidates
from tasks.engine.final_state import keep_result
from tasks.engine.limits import slot
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.rank import rank
from tasks.ranked_tables import rerank_job
from tasks.requests import Name, Night, NightEvent
from tasks.steps import WRITE_NIGHTS


def name_run() -> str:
    """Return the name of a run: that of its night, however the run was started."""
    return NightEvent.run_name("rank-night", flow_run.parameters, flow_run.name)


@keep_result
@flow(name="rank-night", flow_run_name=name_run, task_runner=ComputeTaskRunner())
def rank_night(
    night: Night | None = None,
    skymap: Name | None = None,
    event: dict[str, Any] | None = None,
    site: str = "default",
    destination: Destination = "persistent",
    overwrite: bool = False,
    settings: CandidateSettings | None = None,
) -> State[dict[str, Any]]:
    """Rank the candidates of a night again, from its tables; no images are processed.

    Args:
        night: Night, YYYYMMDD; None if the event names it.
        skymap: File of a new sky map, which is stored for the night; None to use the current one.
        event: Payload of the event of a new sky map, with ``night`` and ``skymap``.
        site: Name or folder of the site.
        destination: Destination of the night's products: persistent or scratch.
        overwrite: Recompute cached steps.
        settings: Weights and models; None for those of the last ranking.

    Raises:
        InputError: If the night is not registered or was never ranked, or the sky map cannot be read.
    """
    place = load_site(site).storing_in(destination)
    number = NightEvent.night_of(night, event)
    given = skymap or (event or {}).get("skymap")
    rerank_job(number, read_night(place, number).skymap, place)
    if given:
        adopt_skymap(place, number, Path(given))
    stage = Stage("ranking", StepJob(night=number, site=place), overwrite=overwrite)
    with slot(WRITE_NIGHTS), list_lock(read_night(place, number)):
        registered = read_night(place, number)  # the newest, which no older one replaces afterwards
        retracted = is_retracted(place, registered.record.event)
        with recorded_run(registered, RANK, flow_run.id, retracted=retracted):
            job = rerank_job(number, registered.skymap, place, settings)
            ranked = stage.run(rank, job, (0,))
    if ranked is None:
        return stage.final_state(())
    show_candidates(registered, place)
    announce_candidates(registered, place)
    quality = dict(ranked.quality)
    message = f"night {number}: {quality['n_candidates']:.0f} candidates ranked with {registered.record.skymap}"
    return Completed(message=message, data=stage.summary((0,)) | {"ranked": quality})

"""Ranking: order the candidates of a processed night on another sky map, or with other weights.

adopt the new map -> rank, from the night's tables alone -> list, pages and pictures
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from blocks.nights import read_night
from blocks.site import Destination
from blocks.skymaps import adopt_skymap
from flows.described import described
from imaging.candidates.settings import CandidateSettings
from tasks.announcements import announce_candidates
from tasks.ends import remembered
from tasks.exhibits import exhibit_night
from tasks.limits import WRITE_NIGHTS, slot
from tasks.rank import rank
from tasks.ranked_tables import rerank_job
from tasks.records import StepJob
from tasks.requests import NightEvent
from tasks.stage import Stage


def name_run() -> str:
    """Name a run after its night, whoever has asked for it."""
    parameters = flow_run.parameters
    return f"rank-night-{NightEvent.night_of(parameters.get('night'), parameters.get('event'))}"


@described
@remembered
@flow(name="rank-night", flow_run_name=name_run, task_runner=ComputeTaskRunner())
def rank_night(
    night: int | None = None,
    skymap: str | None = None,
    event: dict[str, Any] | None = None,
    site: str = "default",
    destination: Destination = "persistent",
    overwrite: bool = False,
    settings: CandidateSettings | None = None,
) -> State[dict[str, Any]]:
    """Rank the candidates of a night again; no pixel is touched.

    Parameters
    ----------
    night
        Night, YYYYMMDD; None if the event names it.
    skymap
        File of the new sky map, which becomes the night's; None to keep the one that it has.
    event
        Payload of the event of a new map: its night, and the file as ``skymap``.
    site
        Name or folder of the site.
    destination
        Where the night's products are.
    overwrite
        Whether to rank even if just this is known to be done.
    settings
        Weights and models; None for those of the last ranking.

    Raises
    ------
    InputError
        If the night is not registered or was never ranked, or the sky map cannot be read.
    """
    place = load_site(site).storing_in(destination)
    number = NightEvent.night_of(night, event)
    given = skymap or (event or {}).get("skymap")
    rerank_job(number, read_night(place, number).skymap, place)
    registered = adopt_skymap(place, number, Path(given)) if given else read_night(place, number)
    stage = Stage("ranking", StepJob(night=number, site=place), overwrite=overwrite)
    with slot(WRITE_NIGHTS):
        ranked = stage.run(rank, rerank_job(number, registered.skymap, place, settings), (0,))
    if ranked is None:
        return stage.verdict(())
    exhibit_night(registered, place)
    announce_candidates(registered, place)
    quality = dict(ranked.quality)
    message = f"night {number}: {quality['n_candidates']:.0f} candidates ranked on {registered.record.skymap}"
    return Completed(message=message, data=stage.summary((0,)) | {"ranked": quality})

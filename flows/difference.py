"""Difference imaging: what has changed since the templates were taken.

choose templates for every CCD -> map difference (stack, subtract, detect, fakes) -> gather the quality numbers

In a night CCDs are searched ahead, before the templates of the other CCDs are done.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from flows.described import described
from flows.settings import DifferenceSettings
from imaging.errors import InputError
from imaging.identity import ExposureId
from tasks.difference import difference as difference_step
from tasks.difference import difference_job
from tasks.ends import remembered
from tasks.exhibits import exhibit_difference
from tasks.gather import gather, gather_job
from tasks.records import StepJob, StepResult
from tasks.requests import ExposureRequest
from tasks.stage import Stage
from tasks.summaries import read_summary, summary_path
from tasks.templates import (
    TemplateCcd,
    choose,
    choose_job,
    chosen_templates,
    processed_exposures,
    ranked_templates,
    summaries_of,
    taken_templates,
)

_ready: ContextVar[Iterable[Collection[int]]] = ContextVar("_ready", default=())


@contextmanager
def searching_ahead(ready: Iterable[Collection[int]]) -> Iterator[None]:
    """Let the flow inside the ``with`` block search CCDs ahead, while templates of others are still being processed.

    Parameters
    ----------
    ready
        CCDs whose templates are all done, again whenever there may be more; ends when those of all CCDs are.
    """
    token = _ready.set(ready)
    try:
        yield
    finally:
        _ready.reset(token)


def ready_ahead() -> Iterable[Collection[int]]:
    """Return what :func:`searching_ahead` has given: a flow that travels to workers cannot hold it itself."""
    return _ready.get()


class CcdSearch:
    """The CCDs of an exposure that are searched, all at once or some ahead of the others.

    Parameters
    ----------
    stage
        Account of the stage.
    exposure
        The search exposure.
    wanted
        CCDs to search.
    offered
        Exposures to choose templates from.
    settings
        How it is done.
    """

    def __init__(
        self,
        stage: Stage,
        exposure: ExposureRequest,
        wanted: Collection[int],
        offered: Sequence[ExposureId],
        settings: DifferenceSettings,
    ) -> None:
        self.stage, self.site = stage, stage.about.site
        self.who, self.season = exposure.exposure_id(), exposure.season
        self.wanted = wanted
        self.offered = offered
        self.settings = settings
        self.chosen: dict[int, list[TemplateCcd]] = {}
        self.searched: dict[int, StepResult] = {}

    def choose_job(self) -> StepJob:
        """Plan the choice among the templates that are processed by now."""
        return choose_job(self.who, self.offered, self.season, self.site, self.settings.templates)

    def ahead(self, ready: Collection[int]) -> None:
        """Search those of some CCDs that have templates and have not been searched."""
        new = [ccd for ccd in self.wanted if ccd in ready and ccd not in self.chosen]
        taken = taken_templates(ranked_templates(self.choose_job())) if new else {}
        chosen = {ccd: taken[ccd] for ccd in new if ccd in taken}
        try:
            jobs = self._plan(chosen)
        except InputError:
            return  # whether the input of every CCD is wrong, or of these only, is seen at the end
        self.chosen |= chosen
        self._map(jobs)

    def rest(self, chosen: Mapping[int, list[TemplateCcd]]) -> None:
        """Search the others, and those for which the choice among all templates is another one than it was ahead.

        Raises
        ------
        InputError
            If the input of every CCD is wrong.
        """
        final = {ccd: chosen.get(ccd, []) for ccd in self.wanted}
        left = {ccd for ccd, templates in final.items() if self.chosen.get(ccd) != templates}
        for ccd in left:
            self.searched.pop(ccd, None)
            self.stage.failures.pop(ccd, None)
        self._map([job for job in self._plan(final) if job.ccd in left])

    def _plan(self, chosen: Mapping[int, list[TemplateCcd]]) -> list[StepJob]:
        known = summaries_of([self.who, *self.offered], self.site)
        return self.stage.plan(
            "difference",
            chosen,
            lambda ccd: difference_job(self.who, ccd, chosen[ccd], known, self.season, self.site, self.settings.search),
        )

    def _map(self, jobs: Sequence[StepJob]) -> None:
        self.searched |= self.stage.map(difference_step, jobs)


@described
@remembered
@flow(name="difference", flow_run_name="difference-{exposure.expnum}", task_runner=ComputeTaskRunner())
def difference(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: tuple[int, ...] | None = None,
    templates: Sequence[ExposureRequest] | None = None,
    overwrite: bool = False,
    settings: DifferenceSettings = DifferenceSettings(),
) -> State[dict[str, Any]]:
    """Search the verified CCDs of an exposure.

    Parameters
    ----------
    exposure
        The search exposure, and the season under which its products are filed.
    site
        Name or folder of the site.
    ccds
        CCDs to search; None for all that verification has passed.
    templates
        Exposures to choose from; None for all processed ones of the same band and version.
    overwrite
        Whether to compute what is known to be done.
    settings
        How it is done.

    Raises
    ------
    InputError
        If the exposure has not been verified.
    """
    place = load_site(site).storing_in(exposure.destination)
    who, season = exposure.exposure_id(), exposure.season
    stage = Stage("difference", StepJob(exposure=who, site=place), overwrite=overwrite)
    offered = processed_exposures(place, who) if templates is None else [request.exposure_id() for request in templates]

    wanted = tuple(read_summary(summary_path(who, place), who.expnum).usable) if ccds is None else ccds
    search = CcdSearch(stage, exposure, wanted, offered, settings)
    for ready in ready_ahead():
        search.ahead(ready)
    job = search.choose_job()
    if stage.run(choose, job, wanted) is None:
        return stage.verdict(())
    search.rest(chosen_templates(job))
    searched = search.searched
    if not searched:
        return stage.verdict(())
    gathered = stage.run(gather, gather_job(searched, who, season, place), searched)
    if gathered is not None:
        exhibit_difference(who, season, place)
    return stage.verdict(searched, exposure=gathered.quality if gathered else {})

"""Plan and run the search of an exposure's CCDs, together or some ahead of the others."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Self

from imaging.difference.chain import SearchSettings
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.templates.settings import TemplateSettings
from tasks.choose_templates import (
    TemplateCcd,
    choose_templates_job,
    ranked_templates,
    summaries_of,
    taken_templates,
)
from tasks.difference import difference, difference_job
from tasks.engine.jobs import StepResult
from tasks.engine.stage import Stage
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest
from tasks.steps import DIFFERENCE


class ReadyCcds:
    """CCDs whose templates are complete, in batches, as they become so while the others are processed.

    It is given to a flow that runs in the same process. Prefect stores the parameters of a run and sends them to
    workers; so that this consumes nothing, it is not iterable, has no visible attributes, and is empty on a worker.

    Parameters
    ----------
    batches
        Numbers of CCDs, again whenever there are more; it ends when those of all CCDs have been given.
    """

    __slots__ = ("_batches",)

    def __init__(self, batches: Iterable[Collection[int]] = ()) -> None:
        self._batches = batches

    def batches(self) -> Iterator[Collection[int]]:
        """Yield the batches, waiting for each; once only."""
        yield from self._batches

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Travel empty."""
        return type(self), ()


class CcdSearch:
    """The search of some CCDs of an exposure.

    Parameters
    ----------
    stage
        The stage, whose job has the site.
    exposure
        The search exposure.
    wanted
        CCDs to search.
    offered
        Exposures to choose templates from.
    templates, search
        Rules for the choice of templates; settings of the search.
    """

    def __init__(
        self,
        stage: Stage,
        exposure: ExposureRequest,
        wanted: Collection[int],
        offered: Sequence[ExposureId],
        templates: TemplateSettings,
        search: SearchSettings,
    ) -> None:
        self.stage, self.site = stage, stage.about.site
        self.who, self.season = exposure.exposure_id(), exposure.season
        self.wanted, self.offered = wanted, offered
        self.templates, self.search = templates, search
        self.chosen: dict[int, list[TemplateCcd]] = {}
        self.searched: dict[int, StepResult] = {}

    def choose_templates_job(self) -> StepJob:
        """Plan the choice among the templates that have been processed so far."""
        return choose_templates_job(self.who, self.offered, self.season, self.site, self.templates)

    def search_ahead(self, ready: Collection[int]) -> None:
        """Search those of the ready CCDs that have templates and have not been searched yet."""
        new = [ccd for ccd in self.wanted if ccd in ready and ccd not in self.chosen]
        taken = taken_templates(ranked_templates(self.choose_templates_job())) if new else {}
        chosen = {ccd: taken[ccd] for ccd in new if ccd in taken}
        try:
            jobs = self._plan(chosen)
        except InputError:
            return  # search_rest raises the error if the input of all CCDs is wrong
        self.chosen |= chosen
        self.searched |= self.stage.map(difference, jobs)

    def search_rest(self, chosen: Mapping[int, list[TemplateCcd]]) -> dict[int, StepResult]:
        """Search the remaining CCDs, and again those whose final choice of templates differs from the one used ahead.

        Returns
        -------
        searched
            CCD number to result, of all CCDs searched now or ahead.

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
        self.searched |= self.stage.map(difference, [job for job in self._plan(final) if job.unit in left])
        return self.searched

    def _plan(self, chosen: Mapping[int, list[TemplateCcd]]) -> list[StepJob]:
        known = summaries_of([self.who, *self.offered], self.site)
        return self.stage.plan(
            DIFFERENCE,
            chosen,
            lambda ccd: difference_job(self.who, ccd, chosen[ccd], known, self.season, self.site, self.search),
        )

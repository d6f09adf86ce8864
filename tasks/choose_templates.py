"""Choose the templates of each CCD of a search exposure among the processed exposures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.exposure import night_of
from imaging.identity import ExposureId
from imaging.io.tables import read_table, write_table
from imaging.templates.select import TemplateCandidate, TemplateTarget, select_templates
from imaging.templates.settings import TemplateSettings
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.products import ExposureSummary, read_summary, summary_path
from tasks.steps import CHOOSE_TEMPLATES

SEARCH, CANDIDATE = "search", "candidate_"

TemplateCcd = tuple[int, int]
"""Exposure number and CCD number of a template."""


def choose_templates_job(
    search: ExposureId, candidates: Iterable[ExposureId], season: int, site: Site, settings: TemplateSettings
) -> StepJob:
    """Plan the choice of templates.

    Parameters
    ----------
    search
        The search exposure.
    candidates
        Exposures to choose from; those that have not been verified are ignored.
    season, site, settings
        Season of the products, site, rules of the choice.

    Raises
    ------
    InputError
        If the search exposure itself has not been verified.
    """
    path = summary_path(search, site)
    read_summary(path, search.expnum)
    inputs: dict[str, FileRecord] = {SEARCH: fingerprint(site, path)}
    for candidate in candidates:
        path = summary_path(candidate, site)
        if candidate != search and path.exists():
            inputs[f"{CANDIDATE}{candidate.expnum}"] = fingerprint(site, path)
    return StepJob(exposure=search, season=season, site=site, inputs=inputs, settings=settings)


@step(CHOOSE_TEMPLATES)
def choose_templates(job: StepJob) -> StepResult:
    """Rank the candidate templates of every CCD by depth, seeing and time, with the reason for each decision."""
    table = ranked_templates(job)
    paths = job.product_paths(CHOOSE_TEMPLATES)
    write_table(paths["templates"], table)
    taken = {row["template_expnum"] for row in table.to_pylist() if row["rank"] is not None}
    n_candidates = sum(name.startswith(CANDIDATE) for name in job.inputs)
    return job.result(paths, quality={"n_candidates": n_candidates, "n_taken": len(taken)})


def ranked_templates(job: StepJob) -> pa.Table:
    """Return the table of ranked candidate templates for every CCD, as written to the product."""
    search = read_summary(job.input_path(SEARCH))
    names = sorted(name for name in job.inputs if name.startswith(CANDIDATE))
    candidates = [_candidate(read_summary(job.input_path(name))) for name in names]
    target = TemplateTarget(search.exposure, _footprints(search))
    return select_templates(target, candidates, job.settings_as(TemplateSettings))


def chosen_templates(job: StepJob) -> dict[int, list[TemplateCcd]]:
    """Read the template CCDs chosen for each search CCD, the best first, from the step's product."""
    return taken_templates(read_table(job.product_path("templates.parquet")))


def taken_templates(table: pa.Table) -> dict[int, list[TemplateCcd]]:
    """Return the template CCDs chosen for each search CCD, the best first."""
    rows = [row for row in table.to_pylist() if row["rank"] is not None]
    chosen: dict[int, list[TemplateCcd]] = {}
    for row in sorted(rows, key=lambda row: (row["ccd"], row["rank"])):
        chosen.setdefault(row["ccd"], []).append((row["template_expnum"], row["template_ccd"]))
    return chosen


def processed_exposures(site: Site, like: ExposureId) -> list[ExposureId]:
    """Return the verified exposures with the same band, version and output tree, in order of exposure number."""
    found = []
    pattern = f"{like.schema}/exp/*/*/D*_{like.band}_{like.rpnum}_summary.json"
    for path in site.store.glob(pattern):
        night, expnum = path.parts[-3], path.parts[-2]
        if night.isdigit() and expnum.isdigit():
            found.append(ExposureId(int(expnum), like.band, int(night), like.rnum, like.pnum, like.schema))
    return sorted(found, key=lambda exposure: exposure.expnum)


def subtracted_epochs(job: StepJob) -> list[tuple[ExposureId, int]]:
    """Return (exposure, CCD number) of the templates that were stacked and subtracted from a CCD, the best first.

    Parameters
    ----------
    job
        A job with search exposure, season and CCD.
    """
    search = job.exposure
    if search is None:
        return []
    mjd = read_summary(summary_path(search, job.site), search.expnum).exposure.mjd
    path = job.model_copy(update={"ccd": None}).product_path("templates.parquet")
    rows = [r for r in read_table(path).to_pylist() if r["ccd"] == job.ccd and r["rank"] is not None]
    return [
        (replace(search, expnum=r["template_expnum"], night=night_of(mjd + r["delta_days"])), r["template_ccd"])
        for r in sorted(rows, key=lambda r: r["rank"])
    ]


def summaries_of(exposures: Sequence[ExposureId], site: Site) -> Mapping[int, tuple[ExposureId, ExposureSummary]]:
    """Read the summaries of exposures by exposure number; exposures without a summary are left out."""
    summaries = {}
    for exposure in exposures:
        path = summary_path(exposure, site)
        if path.exists():
            summaries[exposure.expnum] = (exposure, read_summary(path, exposure.expnum))
    return summaries


def _candidate(summary: ExposureSummary) -> TemplateCandidate:
    def number(name: str) -> float:
        value = summary.numbers.get(name)
        return math.nan if value is None else float(value)

    return TemplateCandidate(
        exposure=summary.exposure,
        footprints=_footprints(summary),
        t_eff=number("t_eff"),
        limit_mag=number("depth_mag"),
        fwhm_arcsec=number("fwhm_arcsec"),
        sources={ccd: str(row["source"]) for ccd, row in summary.usable.items() if row.get("source")},
        first_mjd=min((row["first_mjd"] for row in summary.usable.values() if row.get("first_mjd")), default=None),
    )


def _footprints(summary: ExposureSummary) -> dict[int, np.ndarray]:
    return {ccd: np.array(row["corners"], dtype=float) for ccd, row in summary.usable.items()}

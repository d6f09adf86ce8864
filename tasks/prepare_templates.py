"""Find the templates of planned pointings, and summarise their preparation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.raw_index import raw_files
from blocks.site import Site
from imaging.detector.ccds import FIELD_RADIUS_DEG
from imaging.errors import InputError
from imaging.exposure import MJD_EPOCH, Exposure, night_of
from imaging.io.exposure_list import ListedExposure, read_exposure_list
from imaging.io.pointings import Pointing
from imaging.tables import column
from imaging.templates.select import TemplateCandidate, TemplateTarget, select_templates
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import separation_deg
from tasks.engine.final_state import WITH_FAILURES, failed_state, summary_of
from tasks.exposure_requests import candidate_of_listed, nominal_footprints, request_of_listed
from tasks.imported import imported_list
from tasks.requests import ExposureRequest, Version


@dataclass(frozen=True, slots=True)
class PlannedTemplates:
    """The templates of one pointing.

    Attributes
    ----------
    pointing
        The pointing.
    templates
        Template exposures, those used by most of its CCDs first.
    n_ccds, n_covered
        Number of CCDs of the pointing, and of CCDs with a template.
    left
        Reason to number of overlapping exposures of the band that were rejected for it.
    """

    pointing: Pointing
    templates: tuple[int, ...]
    n_ccds: int
    n_covered: int
    left: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preparation:
    """The templates to process for a list of pointings.

    Attributes
    ----------
    pointings
        The pointings with their templates.
    exposures
        Every template exposure once; those needed by most CCDs first.
    """

    pointings: tuple[PlannedTemplates, ...]
    exposures: tuple[ExposureRequest, ...]


def known_exposures(site: Site, exposure_list: Path | None) -> tuple[ListedExposure, ...]:
    """Return the exposures to choose templates from: those of the list, or all that the site has, raw or imported.

    Raises
    ------
    InputError
        If the list cannot be read, or the site has neither.
    """
    if exposure_list is not None:
        return read_exposure_list(exposure_list)
    found = {expnum: ListedExposure(exposure) for expnum, exposure in raw_files(site).exposures().items()}
    for item in imported_list(site):
        found.setdefault(item.exposure.expnum, item)
    if not found:
        raise InputError(
            "no exposures to choose templates from",
            value=site.raw,
            limit="raw files, or an exposure list",
            remedy="give the folders of earlier exposures to gw-workflow add-raw, or give an exposure list",
        )
    return tuple(found.values())


def plan_preparation(
    pointings: Sequence[Pointing],
    mjd: float,
    listed: Iterable[ListedExposure],
    version: Version,
    settings: TemplateSettings,
) -> Preparation:
    """Choose the templates of planned pointings by nominal footprints.

    Parameters
    ----------
    pointings
        Planned pointings.
    mjd
        Time of the observations, MJD UTC, to which the time windows for templates refer.
    listed
        Exposures to choose templates from.
    version
        Version of the requests.
    settings
        Rules for the choice of templates, the same as for a night.
    """
    items = {item.exposure.expnum: item for item in listed}
    near = _NearBy(list(items.values()))
    planned, waiting = [], dict.fromkeys(items, 0)
    for pointing in pointings:
        target = _target(pointing, mjd)
        table = select_templates(target, near.candidates(pointing), settings)
        taken = table.filter(pc.is_valid(table.column("rank")))
        counts: dict[int, int] = {}
        for expnum in taken.column("template_expnum").to_pylist():
            counts[expnum] = counts.get(expnum, 0) + 1
            waiting[expnum] += 1
        order = tuple(sorted(counts, key=lambda expnum: (-counts[expnum], expnum)))
        covered = len(set(column(taken, "ccd").tolist()))
        planned.append(PlannedTemplates(pointing, order, len(target.footprints), covered, _left(table, counts)))
    needed = sorted((e for e, n in waiting.items() if n), key=lambda expnum: (-waiting[expnum], expnum))
    return Preparation(tuple(planned), tuple(request_of_listed(items[expnum], version) for expnum in needed))


def preparation_state(plan: Preparation, processed: Mapping[int, State[Any]]) -> State[dict[str, Any]]:
    """Return the final state of the preparation.

    Parameters
    ----------
    plan
        The plan.
    processed
        Exposure number to the final state of its stages.
    """
    ready = {expnum for expnum, state in processed.items() if state.is_completed()}
    missing = sum(len(summary_of(state).get("failures", {})) for state in processed.values())
    rows = []
    for item in plan.pointings:
        row = item.pointing.model_dump() | {k: v for k, v in asdict(item).items() if k != "pointing"}
        rows.append(row | {"templates": list(item.templates), "ready": [e for e in item.templates if e in ready]})
    bare = sum(not row["ready"] for row in rows)
    message = f"{len(rows)} pointings, {len(ready)} of {len(processed)} templates ready"
    message += f"; {bare} pointings without a template" if bare else ""
    message += f"; {missing} CCDs missing" if missing else ""
    told = {str(e): {"state": s.name, "message": s.message} | summary_of(s) for e, s in processed.items()}
    data = {"pointings": rows, "exposures": told}
    if not ready:
        return failed_state(message, data)
    complete = not missing and not bare and len(ready) == len(processed)
    return (
        Completed(message=message, data=data) if complete else Completed(name=WITH_FAILURES, message=message, data=data)
    )


def mjd_of_night(night: int) -> float:
    """Return local midnight at the observatory, MJD UTC to an hour, of a night given as YYYYMMDD."""
    year, rest = divmod(night, 10000)
    date = MJD_EPOCH.replace(year=year, month=rest // 100, day=rest % 100)
    return (date - MJD_EPOCH).days + 1.0 + 4.0 / 24.0


def _target(pointing: Pointing, mjd: float) -> TemplateTarget:
    exposure = Exposure(0, pointing.band, night_of(mjd), mjd, 90.0, pointing.ra_deg, pointing.dec_deg, 1.0)
    return TemplateTarget(exposure, nominal_footprints(exposure))


class _NearBy:
    """Finds the exposures that may overlap a pointing, and computes footprints for these only."""

    def __init__(self, listed: Sequence[ListedExposure]) -> None:
        self.listed = listed
        self.ra, self.dec = (
            np.array([getattr(i.exposure, n) for i in listed], dtype=float) for n in ("ra_deg", "dec_deg")
        )
        self.band = np.array([item.exposure.band for item in listed])
        self.made: dict[int, TemplateCandidate] = {}

    def candidates(self, pointing: Pointing) -> list[TemplateCandidate]:
        """Return the exposures of the band whose field overlaps that of a pointing."""
        apart = separation_deg(pointing.ra_deg, pointing.dec_deg, self.ra, self.dec)
        numbers = np.flatnonzero((self.band == pointing.band) & (apart < 2.0 * FIELD_RADIUS_DEG)).tolist()
        for number in numbers:
            if number not in self.made:
                self.made[number] = candidate_of_listed(self.listed[number])
        return [self.made[number] for number in numbers]


def _left(table: pa.Table, taken: Mapping[int, int]) -> dict[str, int]:
    """Return reason to number of exposures that were not chosen for any CCD, with the reason of their last row."""
    reasons = {
        row["template_expnum"]: row["reason"] for row in table.to_pylist() if row["template_expnum"] not in taken
    }
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    return counts

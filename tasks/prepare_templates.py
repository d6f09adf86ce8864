"""Find the templates that planned pointings will need, and say how far they are prepared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.site import Site
from imaging.errors import GWWorkflowError, InputError
from imaging.exposure import MJD_EPOCH, Exposure, night_of
from imaging.io.exposure_list import ListedExposure, read_exposure_list
from imaging.io.pointings import Pointing
from imaging.io.raw import read_exposure
from imaging.tables import column
from imaging.templates.select import TemplateCandidate, TemplateTarget, select_templates
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import separation_deg
from tasks.engine.final_state import WITH_FAILURES, failed_state, summary_of
from tasks.exposure_requests import candidate_of_listed, nominal_footprints, request_of_listed
from tasks.requests import ExposureRequest, Version

FIELD_DEG = 2.2
"""Diameter of the camera's field: exposures whose centres are farther apart share nothing."""


@dataclass(frozen=True, slots=True)
class PlannedTemplates:
    """What one pointing will be compared with.

    Attributes
    ----------
    pointing
        The pointing.
    templates
        Exposures, those used by most of its CCDs first.
    n_ccds, n_covered
        CCDs of the pointing, and those that a template overlaps.
    left
        Reason to number of exposures of the band that overlap the pointing and were left for it.
    """

    pointing: Pointing
    templates: tuple[int, ...]
    n_ccds: int
    n_covered: int
    left: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preparation:
    """The work that a list of pointings asks for.

    Attributes
    ----------
    pointings
        Each with its templates.
    exposures
        Every template once, however many pointings need it: those that most CCDs wait for first.
    """

    pointings: tuple[PlannedTemplates, ...]
    exposures: tuple[ExposureRequest, ...]


def known_exposures(site: Site, exposure_list: Path | None) -> tuple[ListedExposure, ...]:
    """Return the exposures that may serve as templates: those listed, or those whose raw files the site has.

    Raises
    ------
    InputError
        If the list cannot be read, or the site has no raw file.
    """
    if exposure_list is not None:
        return read_exposure_list(exposure_list)
    found = []
    for path in sorted(site.raw.glob("*/DECam_*.fits.fz")):
        try:
            found.append(ListedExposure(read_exposure(path)))
        except GWWorkflowError:
            continue  # the stage that reads the pixels says what is wrong with it, if it is asked for
    if not found:
        raise InputError(
            "no exposure that may serve as a template",
            value=site.raw,
            limit="raw files, or an exposure list",
            remedy="fetch earlier exposures of the fields, or give their list",
        )
    return tuple(found)


def plan_preparation(
    pointings: Sequence[Pointing],
    mjd: float,
    listed: Iterable[ListedExposure],
    version: Version,
    settings: TemplateSettings,
) -> Preparation:
    """Choose the templates of pointings that have not been observed yet, by nominal footprints.

    Parameters
    ----------
    pointings
        Where the telescope is going to point.
    mjd
        When, MJD UTC: the time windows count from it.
    listed
        Exposures that may serve as templates.
    version
        Version of the requests.
    settings
        Rules of the choice, the same as for a night.
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
    """Return the state in which the preparation ends.

    Parameters
    ----------
    plan
        What was to be done.
    processed
        Exposure number to the state in which its stages have ended.
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
    """Return local midnight at the observatory of a night written YYYYMMDD, MJD UTC to an hour."""
    year, rest = divmod(night, 10000)
    date = MJD_EPOCH.replace(year=year, month=rest // 100, day=rest % 100)
    return (date - MJD_EPOCH).days + 1.0 + 4.0 / 24.0


def _target(pointing: Pointing, mjd: float) -> TemplateTarget:
    exposure = Exposure(0, pointing.band, night_of(mjd), mjd, 90.0, pointing.ra_deg, pointing.dec_deg, 1.0)
    return TemplateTarget(exposure, nominal_footprints(exposure))


class _NearBy:
    """Finds the exposures that may overlap a pointing, and makes the footprints of these only."""

    def __init__(self, listed: Sequence[ListedExposure]) -> None:
        self.listed = listed
        self.ra, self.dec = (
            np.array([getattr(i.exposure, n) for i in listed], dtype=float) for n in ("ra_deg", "dec_deg")
        )
        self.band = np.array([item.exposure.band for item in listed])
        self.made: dict[int, TemplateCandidate] = {}

    def candidates(self, pointing: Pointing) -> list[TemplateCandidate]:
        """Return the exposures of the band whose field touches that of a pointing."""
        apart = separation_deg(pointing.ra_deg, pointing.dec_deg, self.ra, self.dec)
        numbers = np.flatnonzero((self.band == pointing.band) & (apart < FIELD_DEG)).tolist()
        for number in numbers:
            if number not in self.made:
                self.made[number] = candidate_of_listed(self.listed[number])
        return [self.made[number] for number in numbers]


def _left(table: pa.Table, taken: Mapping[int, int]) -> dict[str, int]:
    """Count the exposures that were not taken for any CCD by the reason that their last row gives."""
    reasons = {
        row["template_expnum"]: row["reason"] for row in table.to_pylist() if row["template_expnum"] not in taken
    }
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    return counts

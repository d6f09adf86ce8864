"""Whether a night fits on the disk: what its exposures will write, and what stays of it."""

import shutil
from dataclasses import dataclass

from blocks.imports import is_imported
from blocks.site import Site
from imaging.errors import GWWorkflowError, InputError
from imaging.identity import ExposureId
from tasks.imported import read_import
from tasks.jobs import StepJob
from tasks.night_plan import NightPlan
from tasks.raw_files import ccds_to_process, find_raw
from tasks.requests import ExposureRequest
from tasks.steps import CALIBRATE, CCDS_OF_EXPOSURE, COLLECT_QUALITY

KEPT_MB, KEPT_DIFFERENCE_MB = 20.0, 17.0
"""What stays of a CCD, and of its difference."""

INTERMEDIATE_MB = 34.0
"""Intermediate images of a CCD, until its exposure is verified."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the rest of a night writes, and the disk.

    Attributes
    ----------
    n_ccds, n_searched
        CCDs that are still to be processed, and searched.
    kept_gb
        What stays of them.
    intermediate_gb, passing_gb
        Their intermediate images: of all of them, and of those in process at the same time.
    free_gb
        Free space of the disk.
    """

    n_ccds: int
    n_searched: int
    kept_gb: float
    intermediate_gb: float
    passing_gb: float
    free_gb: float

    def needed_gb(self, *, tidies: bool) -> float:
        """Return what must be free, if intermediate images are removed behind each exposure or not."""
        return self.kept_gb + (self.passing_gb if tidies else self.intermediate_gb)

    def sentence(self) -> str:
        """Return the numbers in words."""
        return (
            f"{self.n_ccds} CCDs to process and {self.n_searched} to search: {self.kept_gb:.1f} GB stay, "
            f"{self.passing_gb:.1f} GB of intermediate images in passing ({self.intermediate_gb:.1f} GB if none is "
            f"removed); {self.free_gb:.1f} GB are free"
        )


def room_for(plan: NightPlan, site: Site, at_once: int, *, ccds_unseen: int = CCDS_OF_EXPOSURE) -> Room:
    """Estimate what the exposures of a night that are not processed yet will write.

    Parameters
    ----------
    plan, site
        The plan and the site with the products.
    at_once
        Exposures processed at the same time.
    ccds_unseen
        CCDs of an exposure whose raw file has not arrived.
    """
    ccds = {request.expnum: _ccds_left(request, site, ccds_unseen) for request in plan.all}
    searched = {request.expnum: _ccds_to_search(request, site, ccds_unseen) for request in plan.search}
    largest = sorted(ccds.values())[-at_once:]
    n, m = sum(ccds.values()), sum(searched.values())
    folder = next(path for path in (site.store, *site.store.parents) if path.exists())
    return Room(
        n,
        m,
        (KEPT_MB * n + KEPT_DIFFERENCE_MB * m) / 1e3,
        INTERMEDIATE_MB * n / 1e3,
        INTERMEDIATE_MB * sum(largest) / 1e3,
        shutil.disk_usage(folder).free / 1e9,
    )


def check_room(plan: NightPlan, site: Site, at_once: int, *, tidies: bool) -> Room:
    """Refuse a night whose exposures at hand do not fit on the disk.

    Parameters
    ----------
    plan, site, at_once
        As in :func:`room_for`.
    tidies
        Whether the run removes intermediate images.

    Returns
    -------
    room
        That for all exposures of the night, also those that have not arrived.

    Raises
    ------
    InputError
        If what it writes exceeds the free space.
    """
    room = room_for(plan, site, at_once, ccds_unseen=0)
    needed = room.needed_gb(tidies=tidies)
    if room.n_ccds + room.n_searched and needed > room.free_gb:
        raise InputError(
            f"the night needs {needed:.1f} GB and does not fit on the disk",
            value=room.sentence(),
            limit=f"{room.free_gb:.1f} GB",
            remedy=f"free space on the disk of {site.store}, or list fewer exposures; what is processed is kept",
        )
    return room_for(plan, site, at_once)


def _ccds_left(request: ExposureRequest, site: Site, unseen: int) -> int:
    """Return how many CCDs of an exposure have no final image yet."""
    who = request.exposure_id()
    try:
        ccds = _ccds_of(who, site)
    except GWWorkflowError:
        return unseen
    paths = [StepJob(exposure=who, ccd=ccd, site=site).product_path(CALIBRATE.products["image"]) for ccd in ccds]
    return sum(not path.exists() for path in paths)


def _ccds_to_search(request: ExposureRequest, site: Site, unseen: int) -> int:
    who = request.exposure_id()
    job = StepJob(exposure=who, season=request.season, site=site)
    if job.product_path(COLLECT_QUALITY.products["quality"]).exists():
        return 0
    try:
        return len(_ccds_of(who, site))
    except GWWorkflowError:
        return unseen


def _ccds_of(who: ExposureId, site: Site) -> tuple[int, ...]:
    return read_import(site, who).ccds if is_imported(site, who) else ccds_to_process(find_raw(site, who), None)

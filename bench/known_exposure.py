"""A fully cached search exposure of 60 CCDs and its template, without processing all CCDs.

One CCD of both exposures is simulated and processed. The other CCDs get hard links to its products, with CCD-specific
content (positions, detections) replaced. Planners, keys, records and the checks of products are those of the pipeline,
so that a cached run costs as much as after real processing.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import JSONSerializer

from bench.plain_night import Cost, PlainNight
from bench.storm_night import registered_copy
from blocks.site import Site
from imaging.detector.ccds import NX, NY, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.identity import ExposureId
from imaging.io.atomic import write_bytes, write_text
from imaging.io.tables import read_table, write_table
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import demo_settings
from imaging.wcs.sphere import footprint
from tasks.collect_quality import collect_quality, collect_quality_job
from tasks.engine.cache import record_path
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import Step
from tasks.jobs import StepJob
from tasks.products import read_quality, write_quality
from tasks.raw_files import find_raw
from tasks.steps import (
    CHECK_PRODUCTS,
    CHOOSE_TEMPLATES,
    COLLECT_QUALITY,
    DIFFERENCE,
    SOLVE_ZEROPOINTS,
    TIE_ASTROMETRY,
    VERIFY,
)

LENDER = 27
"""The CCD that is processed; it contains the simulated kilonova."""

WHOLE = tuple(step.name for step in (SOLVE_ZEROPOINTS, VERIFY, CHOOSE_TEMPLATES, COLLECT_QUALITY))
"""Steps of whole exposures that do their real work on all CCDs."""


@dataclass
class LendingNight(PlainNight):
    """A night of one CCD that keeps the result of every step.

    Attributes
    ----------
    results
        Step and exposure number to result.
    """

    results: dict[tuple[str, int], StepResult] = field(default_factory=dict)

    def run(self, step: Step, job: StepJob) -> StepResult:
        """Run a step and keep its result."""
        result = self.results[step.name, job.expnum or 0] = super().run(step, job)
        return result


@dataclass
class LentNight(PlainNight):
    """A night of many CCDs whose steps copy the products of a processed night of one CCD.

    Attributes
    ----------
    lender
        The processed night.
    """

    lender: LendingNight = field(kw_only=True)

    def run(self, step: Step, job: StepJob) -> StepResult:
        """Copy the lender's result, or run a step of :data:`WHOLE`, and write its record."""
        result = super().run(step, job) if step.name in WHOLE else self._lent(step, job)
        record_done(step, job, result)
        return result

    def _lent(self, step: Step, job: StepJob) -> StepResult:
        lent = self.lender.results[step.name, job.expnum or 0]
        if step.info == TIE_ASTROMETRY:
            part = lent.products[f"tie_{LENDER:02d}"]
            ccds = sorted(int(name.removeprefix("matches_")) for name in job.inputs if name.startswith("matches_"))
            products = {"tie": self._linked(lent.products["tie"], job, None)}
            products |= {f"tie_{ccd:02d}": self._linked(part, job, ccd) for ccd in ccds}
            return lent.model_copy(update={"products": products})
        products = {}
        for name, record in lent.products.items():
            change = CHANGES.get((step.name, name))
            products[name] = self._changed(record, job, change) if change else self._linked(record, job, job.ccd)
        return lent.model_copy(update={"products": products})

    def _linked(self, record: FileRecord, job: StepJob, ccd: int | None) -> FileRecord:
        """Link a product of the lender under the name of another CCD."""
        name = record.path if ccd is None else name_for(record.path, job, ccd)
        path = self.site.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.hardlink_to(self.lender.site.path(record.path))
        return record.model_copy(update={"path": name})

    def _changed(self, record: FileRecord, job: StepJob, change: "Change") -> FileRecord:
        """Write a product of the lender, changed for another CCD."""
        path = self.site.path(name_for(record.path, job, job.ccd or 0))
        change(self.lender.site.path(record.path), path, job)
        return FileRecord.of(self.site, path)


def name_for(name: str, job: StepJob, ccd: int) -> str:
    """Return the name of a CCD's product from that of the lender's product."""
    band = job.exposure.band if job.exposure else ""
    return re.sub(rf"(?<=[/_]){band}_{LENDER:02d}(?=[/_])", f"{band}_{ccd:02d}", name)


Change = Callable[[Path, Path, StepJob], None]
"""Converts a product of the lender (first file) to that of a job's CCD (second file)."""


def _placed(lent: Path, path: Path, job: StepJob) -> None:
    """Set CCD number and corners in quality numbers."""
    row: dict[str, Any] = read_quality(lent)
    own = {"ccd": job.ccd} if "ccd" in row else {}
    write_quality(path, row | own | {"corners": corners_of(job)})


def _without_detections(lent: Path, path: Path, job: StepJob) -> None:
    """Remove the detections, because one source cannot be detected on 60 CCDs."""
    table = read_table(lent)
    write_table(path, table if job.ccd == LENDER else table.slice(0, 0))


CHANGES: dict[tuple[str, str], Change] = {
    (CHECK_PRODUCTS.name, "quality"): _placed,
    (DIFFERENCE.name, "quality"): _placed,
    (DIFFERENCE.name, "detections"): _without_detections,
}
"""(step, product) to the function that converts it."""


def corners_of(job: StepJob) -> list[list[float]]:
    """Return RA and Dec of the corners of a job's CCD, degrees, from the pointing of its exposure."""
    if job.exposure is None or job.ccd is None:
        raise TypeError("the job needs a CCD of an exposure")
    observed = find_raw(job.site, job.exposure).exposure
    corners: list[list[float]] = (
        footprint(seed_wcs(job.ccd, observed.ra_deg, observed.dec_deg), NX, NY).round(7).tolist()
    )
    return corners


def record_done(step: Step, job: StepJob, result: StepResult) -> None:
    """Write a step's record as Prefect does after the step."""
    key = step.key(job)
    about = ResultRecordMetadata(serializer=JSONSerializer(), storage_key=key)
    done = result.model_copy(update={"step": step.name})
    record = ResultRecord[StepResult](result=done, metadata=about)
    write_bytes(record_path(job.site, key), record.serialize(), flush=False)


def lend_raw_files(lender: Site, site: Site) -> None:
    """Change the cached index of raw files of one CCD, so that they appear to contain all CCDs."""
    for memory in (lender.state / "raw").glob("*.json"):
        document = json.loads(memory.read_text(encoding="utf-8"))
        own = next(item for item in document["extensions"] if item["ccdnum"] == LENDER)
        document["extensions"] = [
            own | {"ccdnum": ccd, "hdu": number, "content_hash": f"{own['content_hash']}-{ccd}"}
            for number, ccd in enumerate(SCIENCE_CCDS, 1)
        ]
        write_text(site.state / "raw" / memory.name, json.dumps(document))


def lend_calibrations(folder: Path) -> None:
    """Link the calibrations of the lender's CCD for every CCD."""
    for path in list(folder.rglob(f"*_c{LENDER:02d}.fits")):
        for ccd in SCIENCE_CCDS:
            target = path.with_name(path.name.replace(f"_c{LENDER:02d}.", f"_c{ccd:02d}."))
            if not target.exists():
                target.hardlink_to(path)


@dataclass(frozen=True, slots=True)
class Lender:
    """A simulated and processed night of one CCD.

    Attributes
    ----------
    simulated
        Paths of the simulated night.
    night
        The processed night with its results.
    search, template
        Its two exposures.
    """

    simulated: SimulatedNight
    night: LendingNight
    search: ExposureId
    template: ExposureId

    @classmethod
    def simulate(cls, root: Path) -> Self:
        """Simulate a night in a folder, and process it in this process."""
        simulated = simulate_night(root, demo_settings(ccds=(LENDER,), n_search_exposures=1, n_template_epochs=1))
        night = LendingNight(Site.at(root))
        search, template = (
            night.identity(night.listed(simulated.settings.night, search=wanted)[0]) for wanted in (True, False)
        )
        lender = cls(simulated, night, search, template)
        lender.process(night)
        return lender

    def process(self, night: PlainNight) -> None:
        """Process template and search exposure through all stages of an exposure."""
        for who in (self.template, self.search):
            night.single_epoch(who)
        searched = night.difference(self.search, [self.template])
        season = night.settings.version.season
        night.run(collect_quality, collect_quality_job(searched, self.search, season, night.site))

    def known_site(self, root: Path) -> tuple[Site, list[Cost]]:
        """Create a site with the same night registered, where all steps of all CCDs up to the differences are cached.

        The steps of the night itself, and the forced photometry, are left to the first run.

        Returns
        -------
        site
            The site.
        costs
            Cost of the steps of :data:`WHOLE`.
        """
        lend_calibrations(self.night.site.calibrations)
        site, _ = registered_copy(self.simulated, root)
        lend_raw_files(self.night.site, site)
        night = LentNight(site, self.night.settings, lender=self.night)
        self.process(night)
        return site, night.costs

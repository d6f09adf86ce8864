"""Run the steps of a night as plain functions in this process, without server and cache."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocks.nights import read_night
from blocks.site import Site
from flows.settings import NightSettings
from imaging.errors import CcdError
from imaging.identity import ExposureId
from imaging.io.exposure_list import ListedExposure, read_exposure_list
from tasks.associate import associate, associate_job
from tasks.calibrate import calibrate, calibrate_job
from tasks.check_products import check_products, check_products_job, zeropoint_rows
from tasks.choose_templates import choose_templates, choose_templates_job, chosen_templates, summaries_of
from tasks.detrend import detrend, detrend_planner
from tasks.difference import difference, difference_job
from tasks.engine.jobs import StepResult
from tasks.engine.limits import ResourceMeter
from tasks.engine.step import Step
from tasks.fit_sky import fit_sky, fit_sky_job
from tasks.forced_photometry import forced_photometry, forced_photometry_job
from tasks.jobs import StepJob
from tasks.measure import measure, measure_planner
from tasks.night_plan import NightPlan, plan_night, searched_ccds
from tasks.rank import rank, rank_job
from tasks.raw_files import ccds_to_process, find_raw
from tasks.requests import ExposureRequest
from tasks.solve_zeropoints import solve_zeropoints, solve_zeropoints_job
from tasks.tie_astrometry import tie_astrometry, tie_astrometry_job
from tasks.verify import verify, verify_job


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one run of a step.

    Attributes
    ----------
    step, expnum, ccd
        Step, exposure number and CCD number; CCD 0 for a whole exposure.
    cpu_s
        CPU seconds, including input and output.
    peak_memory_mb
        Peak resident memory of the process while the step ran, MiB.
    parts
        CPU seconds by part of the step.
    """

    step: str
    expnum: int
    ccd: int
    cpu_s: float
    peak_memory_mb: float
    parts: dict[str, float]


@dataclass
class PlainNight:
    """A simulated night that is processed step by step.

    Attributes
    ----------
    site
        Site of the night.
    settings
        Settings of the night.
    costs
        Costs of all steps so far.
    failures
        Failures of CCDs and of whole exposures so far; None raises the first.
    """

    site: Site
    settings: NightSettings = field(default_factory=NightSettings)
    costs: list[Cost] = field(default_factory=list)
    failures: list[CcdError] | None = None

    @classmethod
    def at(cls, root: Path) -> "PlainNight":
        """Return the night simulated in a folder."""
        return cls(Site.at(root))

    def listed(self, night: int, *, search: bool) -> list[ListedExposure]:
        """Return the exposures of the night itself (``search``), or those of other nights."""
        rows = read_exposure_list(self.site.root / "exposures.csv")
        return [item for item in rows if (item.exposure.night == night) == search]

    def identity(self, item: ListedExposure) -> ExposureId:
        """Return an exposure's identity under the settings' version."""
        version = self.settings.version
        return ExposureId(item.exposure.expnum, item.exposure.band, item.exposure.night, version.rnum, version.pnum)

    def run(self, step: Step, job: StepJob) -> StepResult:
        """Run a step and record its cost."""
        meter = ResourceMeter()
        result = step(job)
        cost = meter.read()
        self.costs.append(
            Cost(step.name, job.expnum or 0, job.ccd or 0, cost["total_cpu_s"], cost["peak_memory_mb"], result.cpu_s)
        )
        return result

    def each(self, step: Step, plan: Callable[[int], StepJob], ccds: Iterable[int]) -> dict[int, StepResult]:
        """Run a step on every CCD; returns the results of those that do not fail."""
        results = {}
        for ccd in ccds:
            try:
                results[ccd] = self.run(step, plan(ccd))
            except CcdError as error:
                if self.failures is None:
                    raise
                self.failures.append(error)
        return results

    def single_epoch(self, who: ExposureId) -> dict[int, StepResult]:
        """Process one exposure up to verification; returns the calibrated CCDs."""
        settings, site = self.settings.exposure, self.site
        raw = find_raw(site, who)
        observed, ccds = raw.exposure, ccds_to_process(raw, None)
        plan = detrend_planner(raw, who, site, settings.single_epoch.detrend)
        detrended = self.each(detrend, plan, ccds)
        if not detrended:
            return {}
        sky = self.run(fit_sky, fit_sky_job(detrended, {}, observed, who, site, settings.single_epoch.sky))
        measuring = settings.single_epoch.measure
        plan = measure_planner(detrended, sky, observed, who, site, measuring)
        measured = self.each(measure, plan, detrended)
        if not measured:
            return {}
        self.run(tie_astrometry, tie_astrometry_job(measured, {}, observed, who, site, measuring))
        calibrated = self.each(calibrate, lambda ccd: calibrate_job(who, ccd, site, settings.calibration), measured)
        if not calibrated:
            return {}
        self.run(solve_zeropoints, solve_zeropoints_job(calibrated, {}, who, site, settings.calibration))
        rows = zeropoint_rows(who, site)
        verification = settings.verification
        seen = self.each(
            check_products, lambda ccd: check_products_job(who, ccd, site, rows[ccd], verification), calibrated
        )
        self.run(verify, verify_job(seen, {}, who, site, verification))
        return calibrated

    def difference(self, who: ExposureId, templates: list[ExposureId]) -> dict[int, StepResult]:
        """Search one exposure against templates that have been processed."""
        season, settings = self.settings.version.season, self.settings.difference
        job = choose_templates_job(who, templates, season, self.site, settings.templates)
        self.run(choose_templates, job)
        chosen = chosen_templates(job)
        known = summaries_of([who, *templates], self.site)

        def plan(ccd: int) -> StepJob:
            return difference_job(who, ccd, chosen[ccd], known, season, self.site, settings.search)

        return self.each(difference, plan, sorted(chosen))

    def process(self, number: int) -> StepResult | None:
        """Process a registered night by its plan, from raw files to the ranked list; None if no CCD was searched."""
        self.search(number)
        return self.candidates(number)

    def search(self, number: int) -> None:
        """Process a registered night by its plan, from raw files to the differences."""
        plan = self.plan(number)
        processed = {request.expnum for request in plan.all if self._is_processed(request.exposure_id())}
        for request in plan.search:
            if request.expnum in processed:
                self.difference(request.exposure_id(), [t.exposure_id() for t in plan.templates[request.expnum]])

    def _is_processed(self, who: ExposureId) -> bool:
        """Process one exposure up to verification; a failure of the whole exposure is noted if failures are."""
        try:
            return bool(self.single_epoch(who))
        except CcdError as error:
            if self.failures is None:
                raise
            self.failures.append(error)
            return False

    def plan(self, number: int) -> NightPlan:
        """Return the plan of a registered night: its exposures, and the templates that they need."""
        settings = self.settings
        return plan_night(read_night(self.site, number), settings.version, settings.difference.templates, self.site)

    def candidates(self, number: int) -> StepResult | None:
        """Rank the candidates of a registered night whose exposures have been searched; None if no CCD was."""
        registered, settings, site = read_night(self.site, number), self.settings, self.site
        plan = self.plan(number)
        done = [request for request in plan.search if self._is_searched(request)]
        ccds = searched_ccds(done, plan, site)
        if not ccds:
            return None
        associated = self.run(associate, associate_job(ccds, number, site, settings.candidates))
        search, season = settings.difference.search, settings.version.season
        who = {request.expnum: request.exposure_id() for request in done}
        forced = [
            self.run(
                forced_photometry,
                forced_photometry_job(who[item.expnum], item.ccd, season, associated, site, search),
            )
            for item in ccds
        ]
        upstream = {"exposure": settings.exposure, "difference": settings.difference}
        return self.run(rank, rank_job(registered, associated, forced, ccds, site, settings.candidates, upstream))

    def _is_searched(self, request: ExposureRequest) -> bool:
        job = StepJob(exposure=request.exposure_id(), season=request.season, site=self.site)
        return job.product_path("templates.parquet").is_file()


@contextmanager
def simulated_site(settings: object, root: Path | None = None) -> Iterator[Path]:
    """Simulate a night in a temporary folder, or in ``root``, which is kept."""
    import tempfile

    from imaging.simulation.night import simulate_night
    from imaging.simulation.settings import SimulationSettings

    if not isinstance(settings, SimulationSettings):
        raise TypeError("settings of the simulation are needed")
    if root is not None:
        simulate_night(root, settings)
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        simulate_night(Path(folder), settings)
        yield Path(folder)

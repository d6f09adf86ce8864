"""A small but complete exposure, map -> reduce -> map -> reduce, for tests with random kills.

The output of a step depends only on its input, so that the products of a run with kills can be compared, byte for byte,
with those of an undisturbed run. Every execution appends a line to the site's file ``executions``.
"""

import os
import sys
import time
from pathlib import Path

from prefect import flow

from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.atomic import content_hash, write_text
from tasks.engine.jobs import ExitCode, Outcome, StepInfo, StepResult
from tasks.engine.step import Step, map_step, run_step, split, step
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob

NIGHT = 20170818
PAUSE_S = "pause_s"
EXECUTIONS = "executions"
N_WORKERS = 2


def _work(job: StepJob, name: str) -> StepResult:
    with (job.site.root / EXECUTIONS).open("a") as stream:
        stream.write(f"{name}-{job.name}\n")
    time.sleep(float(os.environ.get("STORM_PAUSE_S", "0")))
    read = [content_hash(job.input_path(number)) for number in sorted(job.inputs)]
    path = job.product_path(f"{name}.txt")
    write_text(path, "\n".join([f"{name} {job.name}", *read]) * 500 + "\n")
    return job.result({"text": path})


@step(StepInfo("grow", "storm", "ccd", 0.0))
def grow(job: StepJob) -> StepResult:
    """Write the first product of a CCD."""
    return _work(job, "grow")


@step(StepInfo("gather_all", "storm", "exposure", 0.0))
def gather_all(job: StepJob) -> StepResult:
    """Combine the first products of all CCDs."""
    return _work(job, "gather")


@step(StepInfo("refine", "storm", "ccd", 0.0))
def refine(job: StepJob) -> StepResult:
    """Write the second product of a CCD from its first and from the combined one."""
    return _work(job, "refine")


@step(StepInfo("list_all", "storm", "exposure", 0.0))
def list_all(job: StepJob) -> StepResult:
    """Combine the second products of all CCDs."""
    return _work(job, "list")


def exposure_jobs(site: Site, expnum: int, ccds: tuple[int, ...]) -> list[StepJob]:
    """Return a job per CCD of an exposure."""
    return [StepJob(exposure=ExposureId(expnum, "i", NIGHT), ccd=ccd, site=site) for ccd in ccds]


def _reduced(step: Step, jobs: list[StepJob], results: dict[int, StepResult]) -> Outcome:
    inputs = {f"{ccd:02d}": result.products["text"] for ccd, result in results.items()}
    return run_step(step, jobs[0].model_copy(update={"ccd": None, "inputs": inputs}))


@flow(task_runner=ComputeTaskRunner())
def storm_exposure(root: str, expnum: int, ccds: tuple[int, ...]) -> bool:
    """Process an exposure; return whether all steps succeeded."""
    jobs = exposure_jobs(Site.at(root), expnum, ccds)
    grown, lost = split(map_step(grow, jobs))
    if lost:
        return False
    gathered = _reduced(gather_all, jobs, grown)
    if gathered.result is None:
        return False
    together = {"all": gathered.result.products["text"]}
    second = [
        job.model_copy(update={"inputs": together | {"own": grown[job.ccd or 0].products["text"]}}) for job in jobs
    ]
    refined, lost = split(map_step(refine, second))
    return not lost and _reduced(list_all, jobs, refined).result is not None


def expected_products(site: Site, expnum: int, ccds: tuple[int, ...]) -> dict[str, str]:
    """Run the exposure as plain functions on another site; return name to content hash of each product."""
    jobs = exposure_jobs(site, expnum, ccds)
    site.root.mkdir(parents=True, exist_ok=True)
    grown = {job.ccd: grow(job).products["text"] for job in jobs}
    whole = jobs[0].model_copy(update={"ccd": None})
    gathered = gather_all(whole.model_copy(update={"inputs": {f"{ccd:02d}": grown[ccd] for ccd in ccds}}))
    together = gathered.products["text"]
    second = [job.model_copy(update={"inputs": {"all": together, "own": grown[job.ccd]}}) for job in jobs]
    refined = {job.ccd: refine(job).products["text"] for job in second}
    list_all(whole.model_copy(update={"inputs": {f"{ccd:02d}": refined[ccd] for ccd in ccds}}))
    return products_of(site, expnum)


def products_of(site: Site, expnum: int) -> dict[str, str]:
    """Return name to content hash of each product of an exposure, without temporary files of killed writers."""
    folder = site.products / ExposureId(expnum, "i", NIGHT).folder
    return {path.name: content_hash(path) for path in sorted(folder.glob("[!.]*")) if path.is_file()}


def main() -> None:
    """Process the exposure of the command line; exit with 0 if all steps succeeded."""
    from blocks.cluster import ComputeCluster
    from deployments.cli.running import quiet_console
    from deployments.server.server import server_for
    from tasks.engine.task_runner import with_options

    root, expnum, last_ccd = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    quiet_console(verbose=False)
    run = with_options(storm_exposure, cluster=ComputeCluster(n_workers=N_WORKERS, memory_limit_gb=2))
    with server_for(Site.at(root)):
        state = run(str(root), expnum, tuple(range(1, last_ccd + 1)), return_state=True)
        done = state.is_completed() and state.result()
    sys.exit(ExitCode.COMPLETE if done else ExitCode.MISSING)


if __name__ == "__main__":
    main()

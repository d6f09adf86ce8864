"""Trivial steps, to measure the cost of the orchestration."""

import time

from prefect import flow

from blocks.site import Site
from imaging.identity import ExposureId
from tasks.engine.jobs import Outcome, StepInfo, StepResult
from tasks.engine.step import Step, map_step
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob

NAMES = ("detrend", "measure", "calibrate", "verify", "difference")
"""Names of the steps, as many per CCD as in the pipeline."""

BEGUN = "begun_at"
"""Name of the quality number with the start time of a step, seconds since 1970."""


def write_one_file(job: StepJob) -> StepResult:
    """Write one small file."""
    began = time.time()
    path = job.product_path(f"{job.parameters['step']}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{job.name}\n")
    return job.result({"text": path}, quality={BEGUN: began})


detrend, measure, calibrate, verify, difference = (
    Step(StepInfo(name, "toy", "ccd", 0.0), write_one_file) for name in NAMES
)
STEPS = {step.name: step for step in (detrend, measure, calibrate, verify, difference)}
for _step in STEPS.values():
    _step.__name__ = _step.name


@flow(task_runner=ComputeTaskRunner())
def toy_exposure(root: str, ccds: tuple[int, ...], names: tuple[str, ...] = NAMES, expnum: int = 1) -> list[Outcome]:
    """Run the steps for the CCDs of one exposure."""
    outcomes: list[Outcome] = []
    for name in names:
        jobs = [
            StepJob(exposure=ExposureId(expnum, "i", 20170818), ccd=ccd, site=Site.at(root), parameters={"step": name})
            for ccd in ccds
        ]
        outcomes += map_step(STEPS[name], jobs)
    return outcomes

"""A night whose steps only wait as long as the real ones take, with real flows, server, Dask and records.

The flows have the structure of the real ones: two exposures at a time, each a run of stages whose steps are mapped over
CCDs or run once per exposure, then the steps of the night. Each step writes one small product. The pipeline itself does
not use this module.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.site import Site
from flows.side_by_side import run_as_they_come
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from tasks.engine.final_state import merged_state
from tasks.engine.jobs import StepInfo, StepResult
from tasks.engine.stage import Stage
from tasks.engine.step import Step
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest
from tasks.steps import CCD, NIGHT_STAGES, STEPS, steps_of

NIGHT = 20260817

STAGES: Mapping[str, tuple[str, ...]] = {
    stage.replace("_", "-"): tuple(step.name for step in steps_of(stage))
    for stage in ("single_epoch", "calibration", "verification")
}
SEARCH = tuple(step.name for step in steps_of("difference"))


def wait(job: StepJob) -> StepResult:
    """Wait for the time given by the job, and write one small product."""
    began = time.time()
    time.sleep(job.parameters["wait_s"])
    path = job.product_path(f"dry_{job.parameters['step']}.txt")
    write_text(path, f"{job.parameters['step']} {job.name}\n", flush=False)
    return job.result({"text": path}, quality={"began": began, "ended": time.time()})


def _step(info: StepInfo) -> Step:
    step = Step(replace(info, products={}), wait)
    step.__name__ = f"dry_{info.name}"
    return step


for _info in steps_of(*NIGHT_STAGES):
    globals()[f"dry_{_info.name}"] = _step(_info)


def step_named(name: str) -> Step:
    """Return the waiting step for the name of a real one."""
    return globals()[f"dry_{name}"]


def waiting_job(step: str, expnum: int | None, ccd: int | None, root: str, compression: float) -> StepJob:
    """Return the job of a waiting step; its time is the nominal one divided by ``compression``."""
    seconds = STEPS[step].cpu_s / compression
    about: dict[str, Any] = {"site": Site.at(root), "parameters": {"step": step, "wait_s": seconds}}
    if expnum is None:
        return StepJob(night=NIGHT, **about)
    return StepJob(exposure=ExposureId(expnum, "i", NIGHT), ccd=ccd, **about)


def run_steps(
    stage: Stage, expnum: int, steps: tuple[str, ...], ccds: tuple[int, ...], root: str, compression: float
) -> None:
    """Run the steps of a stage of an exposure in sequence."""
    for name in steps:
        if STEPS[name].mapped_over == CCD:
            jobs = [waiting_job(name, expnum, ccd, root, compression) for ccd in ccds]
            stage.map(step_named(name), jobs)
        else:
            stage.run(step_named(name), waiting_job(name, expnum, None, root, compression), ccds)


@flow(name="dry-stage", flow_run_name="dry-{stage}-{expnum}", task_runner=ComputeTaskRunner())
def dry_stage(
    expnum: int, stage: str, steps: tuple[str, ...], ccds: tuple[int, ...], root: str, compression: float
) -> State[dict[str, Any]]:
    """Run one stage of an exposure."""
    account = Stage(stage, StepJob(exposure=ExposureId(expnum, "i", NIGHT), site=Site.at(root)), overwrite=False)
    run_steps(account, expnum, steps, ccds, root, compression)
    return account.final_state(ccds)


@flow(name="dry-exposure", flow_run_name="dry-exposure-{expnum}", task_runner=ComputeTaskRunner())
def dry_exposure(expnum: int, ccds: tuple[int, ...], root: str, compression: float) -> State[dict[str, Any]]:
    """Run the stages of an exposure."""
    states = {
        stage: dry_stage(expnum, stage, steps, ccds, root, compression, return_state=True)
        for stage, steps in STAGES.items()
    }
    return merged_state(f"exposure {expnum}", states)


@flow(name="dry-night", task_runner=ComputeTaskRunner())
def dry_night(
    exposures: tuple[int, ...], ccds: tuple[int, ...], root: str, compression: float, at_once: int = 2
) -> dict[str, int]:
    """Run all stages of all exposures and the steps of the night; return the numbers of records and failures."""
    requests = [ExposureRequest(expnum=expnum, band="i", night=NIGHT) for expnum in exposures]
    run_as_they_come(
        lambda request: dry_exposure(request.expnum, ccds, root, compression, return_state=True),
        requests,
        lambda request, _: dry_stage(request.expnum, "difference", SEARCH, ccds, root, compression, return_state=True),
        dict.fromkeys(exposures, ()),
        at_once,
    )
    stage = Stage("candidates", StepJob(night=NIGHT, site=Site.at(root)), overwrite=False)
    stage.run(step_named("associate"), waiting_job("associate", None, None, root, compression), ())
    jobs = [waiting_job("forced_photometry", expnum, ccd, root, compression) for expnum in exposures for ccd in ccds]
    stage.map_all(step_named("forced_photometry"), jobs)
    stage.run(step_named("rank"), waiting_job("rank", None, None, root, compression), ())
    records = len(list((Path(root) / "state" / "records").glob("*/*.json")))
    return {"records": records, "failures": len(stage.others)}

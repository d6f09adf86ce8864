"""A night whose steps only wait as long as the real ones take: real flows, server, Dask, records; no pixels.

The flows have the shape of the real ones: two exposures at a time, each a run of stages whose steps are mapped over the
CCDs or done for the whole exposure, then the detections of all put together. A step leaves one small product. Nothing
of this can be reached from the processing itself.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from bench.step_times import CCD_STEPS, WHOLE_STEPS
from blocks.compute import ComputeTaskRunner
from blocks.site import Site
from flows.side_by_side import run_as_they_come
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from tasks.records import StepJob, StepResult
from tasks.requests import ExposureRequest
from tasks.seam import Step
from tasks.stage import Stage
from tasks.verdict import merged_verdict

NIGHT = 20260817

STAGES: Mapping[str, tuple[str, ...]] = {
    "single-epoch": ("detrend", "fit_sky", "measure", "tie"),
    "calibration": ("calibrate", "solve"),
    "verification": ("inspect", "verify"),
}
SEARCH = ("choose_templates", "difference", "gather")


def wait(job: StepJob) -> StepResult:
    """Wait as long as the job says, and leave one small product."""
    began = time.time()
    time.sleep(job.parameters["wait_s"])
    path = job.product_path(f"dry_{job.parameters['step']}.txt")
    write_text(path, f"{job.parameters['step']} {job.name}\n", flush=False)
    return job.result({"text": path}, quality={"began": began, "ended": time.time()})


def _step(name: str) -> Step:
    step = Step(name, wait)
    step.__name__ = f"dry_{name}"
    return step


(
    dry_detrend,
    dry_measure,
    dry_calibrate,
    dry_inspect,
    dry_difference,
    dry_force,
    dry_fit_sky,
    dry_tie,
    dry_solve,
    dry_verify,
    dry_choose_templates,
    dry_gather,
    dry_associate,
    dry_rank,
) = (_step(name) for name in (*CCD_STEPS, *WHOLE_STEPS))


def step_named(name: str) -> Step:
    """Return the waiting step of a name."""
    return globals()[f"dry_{name}"]


def waiting_job(step: str, expnum: int | None, ccd: int | None, root: str, compression: float) -> StepJob:
    """Return the job of a waiting step; its time is divided by the compression."""
    seconds = (CCD_STEPS | WHOLE_STEPS)[step] / compression
    about: dict[str, Any] = {"site": Site.at(root), "parameters": {"step": step, "wait_s": seconds}}
    if expnum is None:
        return StepJob(night=NIGHT, **about)
    return StepJob(exposure=ExposureId(expnum, "i", NIGHT), ccd=ccd, **about)


def run_steps(stage: Stage, steps: tuple[str, ...], ccds: tuple[int, ...], root: str, compression: float) -> None:
    """Do the steps of a stage one after the other."""
    expnum = stage.about.expnum
    for name in steps:
        if name in CCD_STEPS:
            jobs = [waiting_job(name, expnum, ccd, root, compression) for ccd in ccds]
            stage.map(step_named(name), jobs)
        else:
            stage.run(step_named(name), waiting_job(name, expnum, None, root, compression), ccds)


@flow(name="dry-stage", flow_run_name="dry-{stage}-{expnum}", task_runner=ComputeTaskRunner())
def dry_stage(
    expnum: int, stage: str, steps: tuple[str, ...], ccds: tuple[int, ...], root: str, compression: float
) -> State[dict[str, Any]]:
    """Do one stage of an exposure."""
    account = Stage(stage, StepJob(exposure=ExposureId(expnum, "i", NIGHT), site=Site.at(root)), overwrite=False)
    run_steps(account, steps, ccds, root, compression)
    return account.verdict(ccds)


@flow(name="dry-exposure", flow_run_name="dry-exposure-{expnum}", task_runner=ComputeTaskRunner())
def dry_exposure(expnum: int, ccds: tuple[int, ...], root: str, compression: float) -> State[dict[str, Any]]:
    """Do the stages of an exposure."""
    states = {
        stage: dry_stage(expnum, stage, steps, ccds, root, compression, return_state=True)
        for stage, steps in STAGES.items()
    }
    return merged_verdict(f"exposure {expnum}", states)


@flow(name="dry-night", task_runner=ComputeTaskRunner())
def dry_night(
    exposures: tuple[int, ...], ccds: tuple[int, ...], root: str, compression: float, at_once: int = 2
) -> dict[str, int]:
    """Do all stages of all exposures, and the night's own steps; return how many steps were done and known."""
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
    jobs = [waiting_job("force", expnum, ccd, root, compression) for expnum in exposures for ccd in ccds]
    stage.map_all(step_named("force"), jobs)
    stage.run(step_named("rank"), waiting_job("rank", None, None, root, compression), ())
    records = len(list((Path(root) / "state" / "records").glob("*/*.json")))
    return {"records": records, "failures": len(stage.others)}

"""Steps that write one small file, controlled by their parameters; each call adds a line to the site's ``calls``."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from distributed import get_worker
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from blocks.site import Site
from imaging.errors import CcdError, InputError, NoWorkError, StorageError
from imaging.identity import ExposureId
from imaging.settings import Settings
from tasks.engine.jobs import Outcome, StepInfo, StepResult
from tasks.engine.step import map_step, run_step, step
from tasks.jobs import StepJob

EXPOSURE = ExposureId(1300001, "i", 20170818, rnum=4, pnum=5)


EATEN_BYTES = 1_300_000_000
"""What a hungry step needs."""


TOY = StepInfo("toy", "toys", "ccd", 0.01, {"text": "toy.txt"}, intermediate=("text",))
HANG = StepInfo("hang", "toys", "ccd", 1.0)


class ToySettings(Settings):
    level: float = 1.0


def note_call(job: StepJob) -> int:
    """Record the call; return its number for this CCD, from 1."""
    path = job.site.root / "calls"
    with path.open("a") as stream:
        stream.write(f"{job.ccd}\n")
    return path.read_text().split().count(str(job.ccd))


def calls(site: Site) -> list[int]:
    path = site.root / "calls"
    return [int(line) for line in path.read_text().splitlines() if line != "None"] if path.exists() else []


@step(TOY)
def toy(job: StepJob) -> StepResult:
    """Write one small file."""
    job.site.root.mkdir(parents=True, exist_ok=True)
    attempt = note_call(job)
    match job.parameters.get("mode"):
        case "bad":
            raise CcdError("too few stars", reason="too_few_stars", value=3, limit="at least 10")
        case "nothing":
            raise NoWorkError("no template overlaps", reason="no_template")
        case "input":
            raise InputError("calibration missing")
        case "flaky" if attempt < 3:
            raise StorageError("the disk is full", value="/somewhere")
        case "full":
            raise StorageError("the disk is full", value="/somewhere")
        case "defect":
            raise ZeroDivisionError("a defect")
        case "kill":
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once" if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "eat":
            eaten = np.ones(EATEN_BYTES // 8)
            time.sleep(1.5)
            del eaten
        case "memory error" if get_worker().memory_manager.memory_limit < EATEN_BYTES:
            raise MemoryError("cannot allocate")
        case "slow":
            time.sleep(1.5)
    path = job.product_path("toy.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{job.name} {job.settings_as(ToySettings).level}\n")
    return job.result({"text": path}, quality={"level": job.settings_as(ToySettings).level, "bad": float("nan")})


@step(StepInfo("toy_night", "toys", "night", 0.01, runs_in_flow=True))
def toy_night(job: StepJob) -> StepResult:
    """Record the call."""
    job.site.root.mkdir(parents=True, exist_ok=True)
    note_call(job)
    return job.result()


@step(HANG, time_limit_s=1.0)
def hang(job: StepJob) -> StepResult:
    """Hang on the first call."""
    if note_call(job) == 1 or job.parameters.get("mode") == "always":
        for _ in range(600):
            time.sleep(0.1)
    return job.result()


def jobs_for(site: Site, ccds, modes=None, level: float = 1.0, exposure: ExposureId = EXPOSURE) -> list[StepJob]:
    modes = modes or {}
    return [
        StepJob(
            exposure=exposure,
            ccd=ccd,
            site=site,
            settings=ToySettings(level=level),
            parameters={"mode": modes[ccd]} if ccd in modes else {},
        )
        for ccd in ccds
    ]


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
def toy_flow(jobs: list[StepJob], overwrite: bool = False) -> list[Outcome]:
    return map_step(toy, jobs, overwrite=overwrite)


@flow
def whole_flow(job: StepJob) -> Outcome:
    return run_step(toy, job)


@flow
def hanging_flow(job: StepJob) -> Outcome:
    return run_step(hang, job)


def product(site: Site, ccd: int) -> Path:
    return site.products / EXPOSURE.folder / f"{EXPOSURE.ccd_stem(ccd)}_toy.txt"

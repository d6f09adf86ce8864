"""The real steps on one CCD with random kills, concurrent runs and cancellation: the same products, computed once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from night_site import ROOT, SEARCH, borrow, contents, gw_workflow, single_epoch

from bench.storm import Prey, Storm, finish_under_fire, workers_of
from bench.storm_night import Records
from blocks.site import Site
from tasks.steps import steps_of

pytestmark = [pytest.mark.slow, pytest.mark.dask, pytest.mark.server]

WORDS = [word for word in single_epoch("-C") if word != "-s"]
"""All stages of one CCD of a search exposure, on worker processes."""

STEPS = {step.name for step in steps_of("single_epoch", "calibration", "verification")}


def command(site: Site) -> tuple[str, ...]:
    return ("deployments.cli.main", *map(str, WORDS), "--workers", "1", "--site", str(site.root), "--json")


def started(site: Site) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    return subprocess.Popen(
        [sys.executable, "-m", *command(site)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def steps_recorded(site: Site) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in (site.records / str(SEARCH[0])).glob("*.json"))


def own_contents(site: Site) -> dict[str, str]:
    return {name: digest for name, digest in contents(site).items() if not Path(name).name.startswith(".")}


@pytest.fixture(scope="module")
def calm(simulated: Site, tmp_path_factory) -> Site:
    """A site on which one CCD was processed without disturbance."""
    site = borrow(simulated, tmp_path_factory.mktemp("calm"))
    ran = gw_workflow(*WORDS, "--workers", "1", "--site", site.root)
    assert ran.code == 0, ran.error[-2000:]
    return site


def test_random_kills_change_no_product_and_repeat_no_finished_step(calm, borrowed):
    records, result = Records(borrowed), Storm()
    prey = Prey(borrowed, command(borrowed), {}, lambda run: bool(workers_of(run)), records.look, (0.2, 2.0))
    finish_under_fire(prey, 3, random.Random(3), result)
    assert result.kills.total() == 3
    assert own_contents(borrowed) == own_contents(calm)
    assert records.redone == []
    assert steps_recorded(borrowed) == sorted(STEPS)


def test_two_concurrent_runs_compute_every_step_once(calm, borrowed):
    runs = [started(borrowed) for _ in range(2)]
    answers = [json.loads(run.communicate(timeout=600)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    computed = [stage["n_computed"] for answer in answers for stage in answer["summary"]["stages"].values()]
    assert sum(computed) == len(STEPS), "a step was done by both, or by none"
    assert own_contents(borrowed) == own_contents(calm)


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_the_workers_of_a_run_end_with_it(borrowed, blow):
    run = started(borrowed)
    deadline = time.monotonic() + 300
    while not (workers := workers_of(run)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert workers
    run.send_signal(blow)
    run.communicate(timeout=120)
    assert run.returncode != 0
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "work goes on after the run was cancelled"

"""A flow without a server: as a run with one in all that is left behind, nothing sent, and a record for the next."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from toy_steps import EXPOSURE, calls, jobs_for, product, toy

from blocks.lone_runs import LoneRun, ended_lone_runs, forget_lone_run, write_lone_run
from blocks.site import Site
from tasks.engine import lone_run
from tasks.engine.artifacts import try_to_create_artifact
from tasks.engine.final_state import error_of, final_state, keep_result, merged_state, summary_of
from tasks.engine.locks import FileLocks
from tasks.engine.lone_run import run_alone
from tasks.engine.replay import is_plain, state_of_records
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner, page_run, with_options
from tasks.jobs import StepJob


@keep_result
@flow(name="lone-stage", task_runner=ComputeTaskRunner())
def lone_stage(site: str, ccds: tuple[int, ...], modes: dict[int, str] | None = None, overwrite: bool = False):
    place = Site.at(site)
    stage = Stage("toys", StepJob(exposure=EXPOSURE, site=place), overwrite=overwrite)
    done = stage.map(toy, jobs_for(place, ccds, modes))
    try_to_create_artifact(page_run(), "table", "quality-1", [{"CCD": ccd} for ccd in done], "quality")
    return stage.final_state(done)


@keep_result
@flow(name="lone-stages", flow_run_name="lone-stages-{ccds}", task_runner=ComputeTaskRunner())
def lone_stages(site: str, ccds: tuple[int, ...], modes: dict[int, str] | None = None, overwrite: bool = False):
    state = with_options(lone_stage)(site, ccds, modes, overwrite=overwrite, return_state=True)
    return merged_state("exposure 1300001", {"toys": state})


@flow(name="raises")
def raises(site: str):
    raise ZeroDivisionError("a defect")


@flow(name="waits")
def waits(site: str):
    print("runs", flush=True)
    signal.pause()
    return final_state("nothing", (), {})


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path)


def alone(site, ccds, modes=None, **options):
    listener = options.pop("listener", None)
    return run_alone(lone_stages, {"site": str(site.root), "ccds": ccds, "modes": modes, **options}, site, listener)


def kept(site) -> LoneRun:
    """The record of the only run."""
    (run,) = ended_lone_runs(site)
    return run


def test_it_ends_as_a_run_with_a_server_and_leaves_the_same_records(site, prefect_server):
    from blocks.cluster import ComputeCluster

    other = Site.at(site.root / "other")
    with_server = with_options(lone_stages, cluster=ComputeCluster(n_workers=1, processes=False))
    known = with_server(str(other.root), (1,), return_state=True)
    state = alone(site, (1,))
    assert (state.type, state.name, state.message) == (known.type, known.name, known.message)
    stage, same = (summary_of(each)["stages"]["toys"] for each in (state, known))
    assert {**stage, "cpu_s": 0} == {**same, "cpu_s": 0}
    assert product(site, 1).read_text() == product(other, 1).read_text()
    names = [sorted(path.relative_to(each.records) for path in each.records.rglob("*.json")) for each in (site, other)]
    assert names[0] == names[1] != []
    assert summary_of(state_of_records(lone_stages, {"site": str(site.root), "ccds": (1,)}))["done"] == [1]
    assert not is_plain()


def test_what_is_recorded_is_not_computed_again_unless_it_is_overwritten(site):
    alone(site, (1,))
    assert summary_of(alone(site, (1, 2)))["stages"]["toys"]["n_cached"] == 1
    assert calls(site) == [1, 2]
    alone(site, (1,), overwrite=True)
    assert calls(site) == [1, 2, 1]


@pytest.mark.parametrize(
    ("mode", "attempts", "kind", "end"),
    [("flaky", 3, None, "COMPLETED"), ("bad", 1, "ccd", "FAILED"), ("defect", 1, "defect", "FAILED")],
)
def test_errors_are_retried_and_told_as_with_a_server(site, mode, attempts, kind, end):
    state = alone(site, (1,), {1: mode})
    assert calls(site) == [1] * attempts
    failures = summary_of(state)["failures"]
    assert [failure["kind"] for failure in failures.values()] == ([kind] if kind else [])
    assert kept(site).state_type == end
    assert state_of_records(lone_stages, {"site": str(site.root), "ccds": (1,), "modes": {1: mode}}) is None or not kind


def test_another_process_that_computes_the_step_is_waited_for(site):
    """It holds the lock of the record; the run waits for it, and takes the record that there is then."""
    alone(site, (1,))
    (record,) = (path for path in site.records.rglob("*.json") if "toy" in path.name)
    kept_record = record.read_bytes()
    record.unlink()
    key = record.relative_to(site.records).as_posix()
    locks = FileLocks(site.state / "locks")
    assert locks.acquire_lock(key, "another")
    ended = threading.Event()

    def other() -> None:
        alone(site, (1,))
        ended.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert not ended.wait(1.0)
    record.write_bytes(kept_record)
    locks.release_lock(key, "another")
    thread.join(60)
    assert ended.is_set()
    assert calls(site) == [1], "computed once"


def test_nothing_is_sent_anywhere(site, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setattr(lone_run, "NOWHERE", f"http://127.0.0.1:{server.getsockname()[1]}/api")
        alone(site, (1, 2), {2: "bad"})
        with pytest.raises(BlockingIOError):
            server.accept()


def test_progress_log_and_artifacts_are_kept(site, caplog):
    caplog.set_level(logging.INFO, "prefect.task_runs")
    heard = []
    alone(site, (1,), listener=heard.append)
    assert [(progress.step, progress.done, progress.total) for progress in heard] == [("toy", 1, 1)]
    run = kept(site)
    assert (run.flow, run.name, run.state_name) == ("lone-stages", "lone-stages-(1,)", "Completed")
    assert run.parameters == {"site": str(site.root), "ccds": [1], "modes": None, "overwrite": False}
    assert any("toy: done in" in line.text for line in run.log)
    assert [(page.kind, page.key, page.content) for page in run.pages] == [("table", "quality-1", '[{"CCD": 1}]')]
    assert run.began <= run.log[0].time <= run.ended


def test_what_a_flow_raises_is_its_failure(site):
    error = error_of(run_alone(raises, {"site": str(site.root)}, site))
    assert isinstance(error, ZeroDivisionError)
    assert (kept(site).state_type, kept(site).message) == ("FAILED", "ZeroDivisionError: a defect")


def test_wrong_parameters_are_refused(site):
    error = error_of(run_alone(raises, {"nonsense": 1}, site))
    assert "nonsense" in str(error)


WAITING = "import sys; sys.path[:0] = sys.argv[2:]; from test_lone_run import *; place = Site.at(sys.argv[1]); "
WAITING += "run_alone(waits, {'site': sys.argv[1]}, place)"


def test_a_killed_run_is_told_from_a_live_one(site):
    here = Path(__file__).parent
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, str(site.root), str(here.parents[2]), str(here)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(here.parents[2])},
    ) as process:
        assert process.stdout.readline() == b"runs\n"
        assert ended_lone_runs(site) == [], "it runs"
        process.kill()
        process.wait()
    assert (kept(site).state_type, kept(site).ended) == ("CRASHED", None)
    forget_lone_run(site, kept(site).run)
    assert not [path for folder in ("runs", "lone-runs") for path in (site.state / folder).iterdir()]


def test_records_do_not_pile_up_where_no_server_ever_runs(site, monkeypatch):
    monkeypatch.setattr("blocks.lone_runs.KEPT", 3)
    alone(site, ())
    first = kept(site)
    for number in range(4):
        os.utime(site.state / "lone-runs" / f"{first.run}.json", (1e9 + number, 1e9 + number))
        first = first.model_copy(update={"run": uuid4(), "name": str(number)})
        write_lone_run(site, first)
    assert sorted(run.name for run in ended_lone_runs(site)) == ["1", "2", "3"]
    forget_lone_run(site, ended_lone_runs(site)[0].run)
    assert len(ended_lone_runs(site)) == 2

"""A flow with nothing to do: known from its records alone, without a run; everything else starts one."""

from types import SimpleNamespace

import pytest
from prefect import flow
from toy_steps import EXPOSURE, calls, jobs_for, product, toy

from blocks.site import Site
from flows.side_by_side import run_side_by_side
from tasks.engine.final_state import keep_result, merged_state, summary_of
from tasks.engine.replay import is_replaying, state_of_records
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner, current_run, with_options
from tasks.jobs import StepJob

pytestmark = pytest.mark.usefixtures("prefect_server")

RUNS = []


@keep_result
@flow(task_runner=ComputeTaskRunner())
def toy_stage(folder: str, ccds: tuple[int, ...], modes: dict[int, str] | None = None, overwrite: bool = False):
    RUNS.append(current_run())
    place = Site.at(folder)
    stage = Stage("toys", StepJob(exposure=EXPOSURE, site=place), overwrite=overwrite)
    return stage.final_state(stage.map(toy, jobs_for(place, ccds, modes)))


@keep_result
@flow(task_runner=ComputeTaskRunner())
def toy_stages(folder: str, ccds: tuple[int, ...], modes: dict[int, str] | None = None, overwrite: bool = False):
    RUNS.append(current_run())
    state = with_options(toy_stage)(folder, ccds, modes, overwrite=overwrite, return_state=True)
    return merged_state("exposure 1300001", {"toys": state})


@keep_result
@flow(task_runner=ComputeTaskRunner())
def toy_night(folder: str, ccds: tuple[int, ...]):
    """Run one flow for each CCD, several at once, in threads, as a night does for its exposures."""
    run = with_options(toy_stage)
    states = run_side_by_side(
        lambda request: run(folder, (request.expnum,), return_state=True),
        [SimpleNamespace(expnum=ccd) for ccd in ccds],
        at_once=3,
    )
    return merged_state("night", {str(ccd): state for ccd, state in states.items()})


@pytest.fixture
def site(tmp_path) -> Site:
    RUNS.clear()
    return Site.at(tmp_path)


def run(site, ccds, modes=None):
    from blocks.cluster import ComputeCluster

    here = with_options(toy_stages, cluster=ComputeCluster(n_workers=1, processes=False))
    return here(str(site.root), ccds, modes, return_state=True)


def records(site, ccds, modes=None, **options):
    return state_of_records(toy_stages, {"folder": str(site.root), "ccds": ccds, "modes": modes, **options})


def test_a_flow_whose_steps_are_recorded_ends_as_its_run_would(site):
    assert records(site, (1, 2)) is None
    assert calls(site) == []

    run(site, (1, 2))
    again = run(site, (1, 2))
    RUNS.clear()
    known = records(site, ["1", 2])  # the parameters are checked as those of a run
    assert RUNS == [None, None], "no run of either flow"
    assert (known.name, known.message) == (again.name, again.message)
    assert summary_of(known) == summary_of(again)
    assert summary_of(known)["stages"]["toys"]["n_cached"] == 2
    assert calls(site) == [1, 2]
    assert not is_replaying()


def test_a_step_without_a_record_or_with_a_damaged_product_has_to_run(site):
    run(site, (1, 2))
    assert records(site, (1, 2, 3)) is None
    assert records(site, (1, 2), overwrite=True) is None
    product(site, 2).write_text("damaged")
    assert records(site, (1, 2)) is None
    assert calls(site) == [1, 2], "nothing was computed to find this out"
    run(site, (1, 2))
    assert records(site, (1, 2)) is not None


@pytest.mark.parametrize("mode", ["bad", "input", "defect"])
def test_what_failed_has_to_run(site, mode):
    run(site, (1, 2), {2: mode})
    assert records(site, (1, 2), {2: mode}) is None


def test_a_ccd_with_nothing_to_do_is_done(site):
    run(site, (1, 2), {2: "nothing"})
    assert summary_of(records(site, (1, 2), {2: "nothing"}))["done"] == [1]


def test_flows_in_threads_are_looked_at_too_and_all_threads_end_with_the_attempt(site):
    run(site, (1, 2, 4))
    night = {"folder": str(site.root), "ccds": (1, 2, 4)}
    RUNS.clear()
    assert state_of_records(toy_night, night) is not None
    assert RUNS == [None] * 3
    assert state_of_records(toy_night, night | {"ccds": (3, 1, 2, 4)}) is None
    assert RUNS == [None] * 7, "no thread has gone on as a run"
    assert calls(site) == [1, 2, 4]
    assert not is_replaying()


def test_wrong_parameters_are_left_to_the_run(site):
    assert records(site, "none") is None

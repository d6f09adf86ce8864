"""Steps on Dask worker processes: lost workers, hanging steps, shared clusters."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from toy_steps import EXPOSURE, calls, hang, jobs_for, toy, toy_night

from blocks.cluster import ComputeCluster
from blocks.site import Site
from imaging.errors import InputError
from tasks.engine import cluster as started_cluster
from tasks.engine.cluster import ADDRESS_VARIABLE, INSECURE_VARIABLE
from tasks.engine.failures import noted_failures
from tasks.engine.jobs import Outcome
from tasks.engine.step import map_step, run_step, split
from tasks.engine.task_runner import NOBODY_WAITS, ComputeTaskRunner, with_options
from tasks.jobs import StepJob

pytestmark = [pytest.mark.dask, pytest.mark.usefixtures("prefect_server")]

TWO_WORKERS = ComputeCluster(n_workers=2, memory_limit_gb=2)


@flow(task_runner=ComputeTaskRunner(TWO_WORKERS))
def dask_flow(jobs: list[StepJob], hanging: list[StepJob] | None = None) -> list[Outcome]:
    outcomes = map_step(toy, jobs)
    return outcomes + map_step(hang, hanging or [])


@flow(task_runner=ComputeTaskRunner(TWO_WORKERS))
def parent_flow(groups: list[list[StepJob]]) -> list[list[Outcome]]:
    """Call a child flow per group, each in a thread."""
    with ThreadPoolExecutor(len(groups)) as pool:
        futures = [pool.submit(copy_context().run, dask_flow, group) for group in groups]
        return [future.result() for future in futures]


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path)


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """The clusters that were started."""
    names: list[str] = []
    start = started_cluster.Cluster._start

    def counted(self, configuration):
        names.append(str(configuration.n_workers))
        return start(self, configuration)

    monkeypatch.setattr(started_cluster.Cluster, "_start", counted)
    return names


def test_dead_workers_affect_only_their_ccd(site, started):
    modes = {2: "bad", 3: "kill", 4: "kill once"}
    state = dask_flow(jobs_for(site, range(1, 6), modes), jobs_for(site, [9]), return_state=True)
    results, failures = split(state.result())
    assert sorted(results) == [1, 4, 5, 9]
    assert {ccd: f.kind for ccd, f in failures.items()} == {2: "ccd", 3: "lost"}
    assert "killed" in failures[3].message
    assert "alone, with more memory" in failures[3].message
    assert calls(site).count(3) == 4 + 1, "four workers beside the others, one alone"
    assert calls(site).count(9) == 2, "a step past its time limit is ended and tried again"
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        )
    lost = {run.name: run.state_name for run in runs if "ccd03" in run.name}
    assert lost == {"toy-1300001-ccd03": "Crashed"}, "a lost task does not stay Running"
    assert not list((site.state / "stuck").glob("*")) or all(
        path.stat().st_size == 0 for path in (site.state / "stuck").glob("*")
    )

    outcomes = dask_flow(jobs_for(site, [1, 4, 5], modes), jobs_for(site, [9]))
    assert all(o.cached for o in outcomes)
    assert started == ["2", "1"], "two workers, and the one with more memory; later nothing was pending"


def test_child_flows_share_the_cluster_of_their_parent(site, started):
    exposures = [EXPOSURE.__class__(expnum, "i", 20170818) for expnum in (11, 12, 13)]
    groups = parent_flow([jobs_for(site, [1, 2], exposure=e) for e in exposures])
    assert all(o.result is not None for group in groups for o in group)
    assert started == ["2"]


def test_a_running_scheduler_can_be_used(site, started, monkeypatch):
    import distributed

    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        monkeypatch.setenv(ADDRESS_VARIABLE, cluster.scheduler_address)
        with pytest.raises(InputError, match="everybody who reaches this Dask scheduler"):
            dask_flow(jobs_for(site, [1]))
        monkeypatch.setenv(INSECURE_VARIABLE, "1")
        assert all(o.result is not None for o in dask_flow(jobs_for(site, [1, 2])))
    assert started == []


@flow(task_runner=ComputeTaskRunner(TWO_WORKERS))
def whole_flow(jobs: list[StepJob]) -> list[Outcome]:
    return [run_step(toy, job) for job in jobs]


@flow(task_runner=ComputeTaskRunner(TWO_WORKERS))
def night_flow(job: StepJob) -> Outcome:
    return run_step(toy_night, job)


def test_a_step_of_a_whole_exposure_runs_on_a_worker(site, started):
    """A step that kills its process does not end the flow, is retried, and is then cached without a cluster."""
    job = jobs_for(site, [None], {None: "kill once"})[0]
    (outcome,) = whole_flow([job])
    assert outcome.failure is None
    assert (site.root / "calls").read_text().split() == ["None", "None"]
    assert started == ["2"]
    (again,) = whole_flow([job])
    assert again.cached
    assert again.result == outcome.result
    assert started == ["2"], "what is known starts no cluster"


def test_a_bad_exposure_stays_bad_on_a_worker_too(site, started):
    """A night's step runs in the flow's process, without starting a cluster."""
    night = jobs_for(site, [None])[0].model_copy(update={"exposure": None, "night": 20170818})
    assert night_flow(night).result is not None
    assert started == []
    (bad,) = whole_flow(jobs_for(site, [None], {None: "bad"}))
    assert (bad.failure.kind, bad.failure.reason) == ("ccd", "too_few_stars")
    assert [note.failure.reason for note in noted_failures(site, "1300001")] == ["too_few_stars"]
    assert started == ["2"]


HUNGRY = ComputeCluster(n_workers=2, memory_limit_gb=1, retry_memory_gb=4)


@flow(task_runner=ComputeTaskRunner(HUNGRY))
def hungry_flow(eating: list[StepJob], refused: list[StepJob], hanging: list[StepJob]) -> list[Outcome]:
    return map_step(toy, eating) + map_step(toy, refused) + map_step(hang, hanging)


def test_a_ccd_that_ran_out_of_memory_is_retried_alone_with_more(site, started):
    """Workers of 1 GiB die with a CCD that needs 1.3 GB; a worker of 4 GiB completes it."""
    jobs = jobs_for(site, range(1, 5), {2: "eat", 3: "memory error", 4: "bad"})
    outcomes = hungry_flow([jobs[0], jobs[1]], [jobs[2], jobs[3]], jobs_for(site, [9], {9: "always"}))
    results, failures = split(outcomes)
    assert sorted(results) == [1, 2, 3]
    assert calls(site).count(2) == 4 + 1, "four workers of 1 GiB, one of 4 GiB"
    assert calls(site).count(3) == 1 + 1, "MemoryError is not tried again beside the same neighbours"
    assert calls(site).count(4) == 1, "a bad CCD is not tried again, alone or not"
    assert started == ["2", "1", "1"]
    assert sorted(note.unit for note in noted_failures(site, "1300001")) == [4, 9]
    stuck = failures[9]
    assert (stuck.kind, stuck.reason) == ("lost", "time_limit")
    assert "2 worker processes exceeded the time limit of 1 s" in stuck.message
    assert calls(site).count(9) == 2, "a step that hangs twice is given up"


@flow(task_runner=ComputeTaskRunner())
def mapping_flow(jobs: list[StepJob]) -> list[Outcome]:
    return map_step(toy, jobs)


@flow(task_runner=ComputeTaskRunner())
def single_flow(job: StepJob) -> Outcome:
    return run_step(toy, job)


@flow(task_runner=ComputeTaskRunner(ComputeCluster(n_workers=1, memory_limit_gb=2)))
def urgent_flow(site: Site) -> None:
    """Submit six CCDs of low priority; when the first has started, two of high priority."""
    slow = dict.fromkeys(range(1, 20), "slow")

    def ask(priority: int, jobs: list[StepJob]) -> None:
        with_options(mapping_flow, priority=priority)(jobs)

    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(copy_context().run, ask, NOBODY_WAITS, jobs_for(site, range(1, 7), slow))
        while not calls(site):
            time.sleep(0.05)
        soon = pool.submit(copy_context().run, ask, 0, jobs_for(site, [11, 12], slow))
        soon.result()
        late.result()


def test_a_ccd_of_higher_priority_runs_before_waiting_ones(site):
    urgent_flow(site)
    order = calls(site)
    assert len(order) == 8
    assert max(order.index(11), order.index(12)) <= 4, f"urgent CCDs waited: {order}"
    assert set(order[-3:]) < set(range(1, 7))


@flow(task_runner=ComputeTaskRunner(ComputeCluster(n_workers=1, memory_limit_gb=2)))
def mixed_flow(site: Site) -> None:
    """Submit six CCDs; when the first has started, a step of a whole exposure of lower priority."""
    jobs = jobs_for(site, range(1, 7), dict.fromkeys(range(1, 7), "slow"))
    with ThreadPoolExecutor(1) as pool:
        ccds = pool.submit(copy_context().run, mapping_flow, jobs)
        while not calls(site):
            time.sleep(0.05)
        with_options(single_flow, priority=-5)(jobs_for(site, [None])[0])
        ccds.result()


def test_a_step_of_a_whole_exposure_runs_before_ccds_of_a_more_urgent_exposure(site):
    """Otherwise workers would be idle at the end of the urgent exposure."""
    mixed_flow(site)
    order = (site.root / "calls").read_text().split()
    assert len(order) == 7
    assert order.index("None") <= 3, f"the whole exposure waited: {order}"

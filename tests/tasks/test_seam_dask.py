"""The seam on Dask worker processes: lost workers, hanging steps, shared clusters."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from toy_steps import EXPOSURE, calls, hang, jobs_for, toy

from blocks import compute
from blocks.cluster import ComputeCluster
from blocks.compute import ADDRESS_VARIABLE, ComputeTaskRunner
from blocks.site import Site
from tasks.records import Outcome, StepJob
from tasks.seam import map_ccds, split

pytestmark = [pytest.mark.dask, pytest.mark.usefixtures("prefect_server")]

TWO_WORKERS = ComputeCluster(n_workers=2, memory_limit_gb=2)


@flow(task_runner=ComputeTaskRunner(TWO_WORKERS))
def dask_flow(jobs: list[StepJob], hanging: list[StepJob] | None = None) -> list[Outcome]:
    outcomes = map_ccds(toy, jobs)
    return outcomes + map_ccds(hang, hanging or [])


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
    start = compute.Cluster._start

    def counted(self, configuration):
        names.append(str(configuration.n_workers))
        return start(self, configuration)

    monkeypatch.setattr(compute.Cluster, "_start", counted)
    return names


def test_workers_that_die_cost_their_ccd_only(site, started):
    modes = {2: "bad", 3: "kill", 4: "kill once"}
    state = dask_flow(jobs_for(site, range(1, 6), modes), jobs_for(site, [9]), return_state=True)
    results, failures = split(state.result())
    assert sorted(results) == [1, 4, 5, 9]
    assert {ccd: f.kind for ccd, f in failures.items()} == {2: "ccd", 3: "lost"}
    assert "4 worker processes died" in failures[3].message
    assert calls(site).count(9) == 2, "a step past its time limit is ended and tried again"
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        )
    lost = {run.name: run.state_name for run in runs if "ccd03" in run.name}
    assert lost == {"toy-1300001-ccd03": "Crashed"}, "a lost task does not stay Running"

    outcomes = dask_flow(jobs_for(site, [1, 4, 5], modes), jobs_for(site, [9]))
    assert all(o.cached for o in outcomes)
    assert started == ["2"], "nothing was pending, so no cluster was started"


def test_child_flows_share_the_cluster_of_their_parent(site, started):
    exposures = [EXPOSURE.__class__(expnum, "i", 20170818) for expnum in (11, 12, 13)]
    groups = parent_flow([jobs_for(site, [1, 2], exposure=e) for e in exposures])
    assert all(o.result is not None for group in groups for o in group)
    assert started == ["2"]


def test_a_running_scheduler_can_be_used(site, started, monkeypatch):
    import distributed

    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        monkeypatch.setenv(ADDRESS_VARIABLE, cluster.scheduler_address)
        assert all(o.result is not None for o in dask_flow(jobs_for(site, [1, 2])))
    assert started == []

"""A cluster that waits costs little: nothing is profiled, and no clock ticks fifty times a second."""

import dask
import pytest

from blocks.cluster import ComputeCluster
from tasks.engine import cluster as started_cluster
from tasks.engine.cluster import Cluster


def watched(dask_worker) -> tuple[bool, float]:
    """Return whether a worker is profiled, and how often the faster of its monitoring clocks ticks, 1/s."""
    ticks = [dask_worker.periodic_callbacks[name].callback_time for name in ("tick", "monitor")]
    return dask.config.get("distributed.worker.profile.enabled"), 1000.0 / min(ticks)


@pytest.mark.dask
def test_workers_and_scheduler_that_wait_are_not_watched(monkeypatch):
    monkeypatch.setattr(started_cluster, "_require_server", lambda: None)
    monkeypatch.delenv(started_cluster.ADDRESS_VARIABLE, raising=False)
    cluster = Cluster(ComputeCluster(n_workers=1, memory_limit_gb=1))
    try:
        ((is_profiled, per_s),) = cluster.client().run(watched).values()
        assert not is_profiled
        assert per_s <= 1.0
        assert cluster.client().cluster.scheduler.periodic_callbacks["tick"].callback_time >= 1000.0
    finally:
        cluster.close()

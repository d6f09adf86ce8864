"""Memory of a retried CCD, and shared and exclusive access to the cluster."""

import threading
import time

import dask
import distributed
import pytest
from distributed.system import MEMORY_LIMIT

from blocks.cluster import ComputeCluster
from tasks.engine import cluster as started_cluster
from tasks.engine.cluster import Turns

GIB = 2**30


def test_local_workers_share_the_memory_by_default():
    assert ComputeCluster(n_workers=4).local_memory_bytes == MEMORY_LIMIT // 4
    assert ComputeCluster(n_workers=4, memory_limit_gb=1).local_memory_bytes == GIB
    assert ComputeCluster(memory_limit_gb=1e6).local_memory_bytes == MEMORY_LIMIT, "no more than there is"


def test_the_retry_worker_has_all_the_memory_of_this_machine():
    more = ComputeCluster(n_workers=4, memory_limit_gb=1).with_more_memory()
    assert more.n_workers == 1
    assert more.local_memory_bytes == pytest.approx(MEMORY_LIMIT, rel=1e-6)


def test_the_memory_of_a_retry_can_be_set_and_is_never_less():
    assert ComputeCluster(n_workers=4, memory_limit_gb=1, retry_memory_gb=3).with_more_memory().memory_limit_gb == 3
    assert ComputeCluster(n_workers=4, memory_limit_gb=2, retry_memory_gb=1).with_more_memory().memory_limit_gb == 2


@pytest.mark.parametrize(
    ("arguments", "retry_gb", "memory"),
    [
        ({"cores": 1, "memory": "4 GB"}, None, "16000000000 B"),
        ({"cores": 1, "memory": "4 GB"}, 24, "24 GiB"),
        ({"cores": 1}, None, None),
    ],
)
def test_a_batch_system_gets_one_larger_job(arguments, retry_gb, memory):
    cluster = ComputeCluster(
        cluster_class="dask_jobqueue.SLURMCluster", n_workers=62, cluster_arguments=arguments, retry_memory_gb=retry_gb
    )
    more = cluster.with_more_memory()
    assert more.n_workers == 1
    assert more.cluster_class == cluster.cluster_class
    assert more.cluster_arguments.get("memory") == memory
    assert cluster.cluster_arguments == arguments, "the block itself stays"


def test_the_job_script_requests_the_larger_memory():
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    options = {"host": "127.0.0.1", "dashboard_address": None}
    cluster = ComputeCluster(
        cluster_class="dask_jobqueue.SLURMCluster",
        cluster_arguments={"cores": 1, "memory": "4 GB", "scheduler_options": options},
    )
    with dask_jobqueue.SLURMCluster(**cluster.with_more_memory().cluster_arguments) as started:
        assert "#SBATCH --mem=15G" in started.job_script()


@pytest.mark.parametrize(
    ("cluster", "patience"),
    [
        (ComputeCluster(n_workers=1), "120s"),
        (ComputeCluster(cluster_class="dask_jobqueue.SLURMCluster"), "43200s"),
        (ComputeCluster(cluster_class="dask_jobqueue.SLURMCluster", queue_hours=0.5), "1800s"),
    ],
)
def test_a_batch_queue_may_take_hours_before_the_first_worker_starts(cluster, patience, monkeypatch):
    """With the timeout of a local cluster every CCD would be lost after two minutes in the queue."""
    asked = {}

    def look(self, configuration):
        for name in ("no-workers-timeout", "allowed-failures"):
            asked[name] = dask.config.get(f"distributed.scheduler.{name}")
        raise ZeroDivisionError

    monkeypatch.setattr(started_cluster.Cluster, "_start", look)
    monkeypatch.setattr(started_cluster, "_require_server", lambda: None)
    monkeypatch.delenv(started_cluster.ADDRESS_VARIABLE, raising=False)
    started = started_cluster.Cluster(cluster)
    with pytest.raises(ZeroDivisionError):
        started.client()
    started.close()
    assert asked == {"no-workers-timeout": patience, "allowed-failures": 3}


@pytest.mark.parametrize(("deaths", "comes_up"), [(2, True), (3, False)])
def test_workers_that_die_while_they_start_are_started_again(deaths, comes_up, monkeypatch):
    """The kernel may kill a starting worker when memory is short; the run must not fail because of it."""
    starts = []

    class Dying:
        def __init__(self, **options):
            starts.append(options)
            if len(starts) <= deaths:
                raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", Dying)
    if comes_up:
        assert isinstance(started_cluster._local_cluster(n_workers=2), Dying)
    else:
        with pytest.raises(RuntimeError, match="Nanny failed to start"):
            started_cluster._local_cluster(n_workers=2)
    assert starts == [{"n_workers": 2}] * 3


def test_a_running_scheduler_cannot_be_given_more():
    cluster = ComputeCluster(address="tcp://127.0.0.1:8786", memory_limit_gb=1)
    assert cluster.with_more_memory() is cluster


def test_exclusive_access_waits_for_shared_access_and_blocks_it():
    turns, log = Turns(), []
    working, finish = threading.Event(), threading.Event()

    def together(name):
        with turns.together():
            log.append(f"{name} begins")
            working.set()
            finish.wait(5)
            log.append(f"{name} ends")

    def alone():
        with turns.alone():
            log.append("alone begins")
            time.sleep(0.05)
            log.append("alone ends")

    first = threading.Thread(target=together, args=("first",))
    first.start()
    assert working.wait(5)
    only = threading.Thread(target=alone)
    only.start()
    time.sleep(0.1)
    late = threading.Thread(target=together, args=("late",))
    late.start()
    time.sleep(0.1)
    assert log == ["first begins"], "one who wants to be alone goes before those who come later"
    finish.set()
    for thread in (first, only, late):
        thread.join(5)
    assert log == ["first begins", "first ends", "alone begins", "alone ends", "late begins", "late ends"]


def test_shared_access_is_concurrent():
    turns, inside = Turns(), threading.Barrier(3, timeout=5)

    def work():
        with turns.together():
            inside.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not inside.broken


def test_an_error_releases_the_access():
    turns = Turns()
    for turn in (turns.alone, turns.together):
        with pytest.raises(ZeroDivisionError), turn():
            raise ZeroDivisionError
    with turns.alone(), pytest.raises(AssertionError):
        raise AssertionError


def test_a_closed_cluster_does_not_start_again(monkeypatch):
    """Threads of a cancelled night that are still alive must not start a new cluster."""
    monkeypatch.setattr(started_cluster.Cluster, "_start", lambda *_: pytest.fail("a cluster was started"))
    cluster = started_cluster.Cluster(ComputeCluster(n_workers=1))
    cluster.close()
    with pytest.raises(RuntimeError, match="have ended"):
        cluster.client()
    with pytest.raises(RuntimeError, match="have ended"), cluster.with_more_memory():
        pytest.fail("a worker with more memory was offered")


def test_a_run_of_few_ccds_starts_few_workers():
    given = ComputeCluster(n_workers=4)
    assert given.with_at_most(2).n_workers == 2
    assert given.with_at_most(2).processes
    assert not given.with_at_most(1).processes, "a single CCD is processed in the flow's process"
    limited = ComputeCluster(n_workers=4, memory_limit_gb=3)
    assert limited.with_at_most(1).processes, "only a worker of its own can be held to a limit"
    assert given.with_at_most(9) == given
    elsewhere = ComputeCluster(n_workers=4, address="tls://host:8786")
    assert elsewhere.with_at_most(1) == elsewhere
    batch = ComputeCluster(n_workers=4, cluster_class="dask_jobqueue.HTCondorCluster")
    assert batch.with_at_most(1) == batch

"""A cluster whose workers are jobs of a batch system such as HTCondor or Slurm."""

import json
import os
import subprocess
import sys
import time

import pytest
from prefect import flow
from toy_steps import calls, jobs_for, toy

from blocks.cluster import ComputeCluster
from blocks.site import Site
from tasks.engine.dask_security import write_certificate
from tasks.engine.jobs import Outcome
from tasks.engine.step import map_step
from tasks.engine.task_runner import ComputeTaskRunner, with_options
from tasks.jobs import StepJob


@flow(task_runner=ComputeTaskRunner())
def batch_flow(jobs: list[StepJob]) -> list[Outcome]:
    return map_step(toy, jobs)


@pytest.mark.dask
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_steps_run_in_jobs_that_the_cluster_class_submits(tmp_path, prefect_server, monkeypatch):
    """The LocalCluster of dask-jobqueue runs each job script as a process of this machine."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    cluster = ComputeCluster(
        cluster_class="dask_jobqueue.local.LocalCluster",
        n_workers=1,
        cluster_arguments={
            "cores": 1,
            "processes": 1,
            "memory": "1 GB",
            "death_timeout": 60,
            "log_directory": str(tmp_path),
            "scheduler_options": {"host": "127.0.0.1", "dashboard_address": None},
        },
    )
    outcomes = with_options(batch_flow, cluster=cluster)(jobs_for(Site.at(tmp_path), [1, 2]))
    assert [outcome.result is not None for outcome in outcomes] == [True, True]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("SLURMCluster", {"queue": "standard", "walltime": "04:00:00"}, ["#SBATCH -p standard", "#SBATCH -t 04:00:00"]),
        ("HTCondorCluster", {"disk": "8 GB"}, ["RequestMemory", "RequestDisk"]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_job_scripts_of_the_documented_classes_ask_for_what_the_page_says(name, options, expected):
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    kind = getattr(dask_jobqueue, name)
    arguments = {"cores": 1, "memory": "4 GB", "scheduler_options": {"host": "127.0.0.1", "dashboard_address": None}}
    with kind(**arguments, **options) as cluster:
        script = cluster.job_script()
    assert [line for line in expected if line not in script] == []


@pytest.fixture
def scheduler(tmp_path):
    """The address of a scheduler with one worker, each a process of its own, as on a cluster that always runs.

    They are started as docs/clusters.md says, with a certificate.
    """
    certificate, key = write_certificate(tmp_path / "certificate")
    tls = ["--protocol", "tls", "--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    address_file = tmp_path / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    dask = [sys.executable, "-m", "dask"]
    words = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        [*dask, "worker", "--nthreads", "1", "--memory-limit", "2GB", "--no-dashboard", "--local-directory", tmp_path],
    ]
    processes = [
        subprocess.Popen([*line, *tls, "--scheduler-file", address_file], env=environment, stderr=subprocess.DEVNULL)
        for line in words
    ]
    deadline = time.monotonic() + 120
    while not (address_file.exists() and address_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        yield json.loads(address_file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=60)


@pytest.mark.dask
@pytest.mark.slow
def test_the_steps_run_on_a_scheduler_that_runs(scheduler, tmp_path, prefect_server):
    assert scheduler.startswith("tls://")
    site = Site.at(tmp_path / "site")
    run = with_options(batch_flow, cluster=ComputeCluster(address=scheduler, certificate=str(tmp_path / "certificate")))
    outcomes = run(jobs_for(site, [1, 2, 3], {2: "bad"}))
    again = run(jobs_for(site, [1, 3]))
    assert [outcome.result is not None for outcome in outcomes] == [True, False, True]
    assert all(outcome.cached for outcome in again)
    assert calls(site) == [1, 2, 3], "one worker with one thread does them in their order"

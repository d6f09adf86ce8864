"""A scheduler that runs on its own and does not answer, or dies: one sentence with its address."""

import asyncio
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client
from prefect import flow
from toy_steps import jobs_for, toy

from blocks.cluster import ComputeCluster
from blocks.site import Site
from tasks.engine import cluster as started_cluster
from tasks.engine import running_scheduler
from tasks.engine.cluster import ADDRESS_VARIABLE, CERTIFICATE_VARIABLE, INSECURE_VARIABLE, Cluster
from tasks.engine.dask_security import FILES, read_certificate, write_certificate
from tasks.engine.final_state import error_of, keep_result
from tasks.engine.jobs import Outcome
from tasks.engine.running_scheduler import SchedulerError, require_answer
from tasks.engine.step import map_step
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob

PATIENTLY_S = 240.0
"""For what a busy machine may take long for."""


class NotFound(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def ports():
    """A port that nobody uses, one that accepts and says nothing, and one of a web server."""
    with (
        socket.socket() as unused,
        socket.create_server(("127.0.0.1", 0)) as silent,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as web,
    ):
        unused.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield {"unused": unused.getsockname()[1], "silent": silent.getsockname()[1], "web": web.server_port}
        web.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["tls", "tcp"])
@pytest.mark.parametrize("kind", ["unused", "silent", "web"])
@pytest.mark.filterwarnings("ignore")
def test_who_does_not_answer_is_named_with_its_address(ports, kind, scheme, tmp_path, monkeypatch):
    """Dask's own client waits without end for the silent port at tcp://."""
    monkeypatch.setattr(running_scheduler, "ANSWER_S", 1.0)
    write_certificate(tmp_path / "certificate")
    address = f"{scheme}://127.0.0.1:{ports[kind]}"
    began = time.monotonic()
    with pytest.raises(SchedulerError) as caught:
        require_answer(address, read_certificate(tmp_path / "certificate") if scheme == "tls" else None)
    assert time.monotonic() - began < 60
    said = caught.value.sentence()
    assert f"the Dask scheduler does not answer ({address}, " in said
    assert kind == "unused" or "refused" not in said
    assert "To do: see that it runs" in said


def test_the_time_to_answer_leaves_room_for_the_start_of_a_command():
    assert running_scheduler.ANSWER_S <= 5, "the sentence comes within 15 s"


def test_a_run_asks_once(monkeypatch):
    """The next exposure of the night does not wait again."""
    asked = []

    def refuse(address, security):
        asked.append(address)
        raise SchedulerError("the Dask scheduler does not answer", value=address)

    monkeypatch.setattr(started_cluster, "require_answer", refuse)
    monkeypatch.setattr(started_cluster, "_require_server", lambda: None)
    monkeypatch.setenv(ADDRESS_VARIABLE, "tls://192.0.2.1:8786")
    cluster = Cluster(ComputeCluster())
    for _ in range(3):
        with pytest.raises(SchedulerError, match=r"tls://192\.0\.2\.1:8786"):
            cluster.client()
    cluster.close()
    assert asked == ["tls://192.0.2.1:8786"]


def test_a_cluster_that_has_lost_its_scheduler_offers_no_worker_with_more_memory(monkeypatch):
    """It does not ask again for a scheduler that has not come back."""
    monkeypatch.setenv(ADDRESS_VARIABLE, "tls://192.0.2.1:8786")
    cluster = Cluster(ComputeCluster())
    cluster._client = SimpleNamespace(status="closed")
    with pytest.raises(SchedulerError, match="has ended"), cluster.with_more_memory():
        pass


def start(name: str, *words: str, folder) -> subprocess.Popen[bytes]:
    """Start a program of Dask with the certificate in a folder."""
    certificate, key = (str(folder / file) for file in FILES)
    tls = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key, "--no-dashboard"]
    command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *words, *tls, "--dashboard-address", "127.0.0.1:0"]
    path = os.pathsep.join(filter(None, [str(Path.cwd()), str(Path(__file__).parent), *sys.path]))
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL)


@keep_result
@flow(task_runner=ComputeTaskRunner())
def two_steps(jobs: list[StepJob], later: list[StepJob], killed: Path) -> list[Outcome]:
    """Run a step, wait for a file, and run another step; the flow is sent to workers and can hold no lock."""
    outcomes = map_step(toy, jobs)
    deadline = time.monotonic() + PATIENTLY_S
    while not killed.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return outcomes + map_step(toy, later)


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("comes_back", "fetch_s"), [(True, 0.0), (True, 1.0), (False, 0.0), (False, 1.0)])
def test_a_scheduler_that_dies_comes_back_or_ends_the_run(comes_back, fetch_s, tmp_path, monkeypatch):
    """The next step waits for it, for as long as a step waits for a worker, and runs once.

    With a slow fetch, the scheduler dies after the first step has ended and before its result has arrived.
    """
    gather = Client._gather

    async def fetch(*arguments, **options):
        await asyncio.sleep(fetch_s)
        return await gather(*arguments, **options)

    monkeypatch.setattr(Client, "_gather", fetch)
    folder = tmp_path / "certificate"
    write_certificate(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tls://127.0.0.1:{port}"
    monkeypatch.setenv(ADDRESS_VARIABLE, address)
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(folder))
    monkeypatch.delenv(INSECURE_VARIABLE, raising=False)
    monkeypatch.setattr(running_scheduler, "ANSWER_S", PATIENTLY_S)
    monkeypatch.setattr(ComputeCluster, "patience_s", PATIENTLY_S if comes_back else 3.0)
    words = ("--host", "127.0.0.1", "--port", str(port), "--protocol", "tls")
    programs = [start("scheduler", *words, folder=folder)]
    worker = (address, "--nthreads", "1", "--no-nanny", "--memory-limit", "2GB")
    programs.append(start("worker", *worker, folder=folder))
    killed, site = tmp_path / "killed", Site.at(tmp_path / "site")

    def kill() -> None:
        deadline = time.monotonic() + PATIENTLY_S
        while not list(site.records.glob("*/*.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        programs[0].send_signal(signal.SIGKILL)
        programs[0].wait()
        if comes_back:
            programs.append(start("scheduler", *words, folder=folder))
            programs.append(start("worker", *worker, folder=folder))
        killed.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        state = two_steps(jobs_for(site, [1]), jobs_for(site, [2, 3]), killed, return_state=True)
    finally:
        killer.join()
        for program in programs:
            program.kill()
            program.wait()
    if comes_back:
        assert [outcome.failure for outcome in state.result()] == [None] * 3
    else:
        assert state.is_failed()
        error = error_of(state)
        assert isinstance(error, SchedulerError)
        assert f"the Dask scheduler has ended ({address}, lost" in error.sentence()

"""Dask scheduler, Prefect server, database and workers on two hosts, as ``docs/clusters.md`` says."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.postgresql import PostgreSQL, running_postgresql
from bench.two_hosts import ADDRESSES, SecondHost, two_hosts
from deployments.server.server_settings import CLIENT, SERVER

SEED = 20170817

START_S = 600.0
"""Seconds that servers and workers may take to start on a busy machine."""

SCHEDULER = f"tls://{ADDRESSES[0]}:8786"
METRICS = "127.0.0.1:8787"
API = f"http://{ADDRESSES[0]}:4200/api"
LOGIN = "gw:two-hosts"
COMMAND = (sys.executable, "-m", "deployments.cli.main")


def wait_for(what: Callable[[], bool], seconds: float, name: str) -> float:
    """Wait until a condition holds; return the elapsed seconds.

    Raises
    ------
    TimeoutError
        If it does not hold in time.
    """
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with suppress(OSError, ValueError):
            if what():
                return time.monotonic() - began
        time.sleep(0.3)
    raise TimeoutError(f"{name}: not within {seconds:g} s")


def n_workers() -> int:
    """Return the number of workers that the scheduler knows."""
    with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counts = [line.rpartition(" ")[2] for line in lines if line.startswith("dask_scheduler_workers{")]
    return int(sum(float(count) for count in counts))


@dataclass
class TwoHosts:
    """The two hosts with all that a night needs.

    Attributes
    ----------
    shared
        The shared folder.
    second
        The second host.
    database
        The database server; None if there is no PostgreSQL: the server uses SQLite then.
    environment
        Environment of commands and workers.
    """

    shared: Path
    second: SecondHost
    database: PostgreSQL | None
    environment: dict[str, str]

    def start_workers(self) -> None:
        """Start the worker of the second host, as ``docs/clusters.md`` says."""
        words = [*COMMAND, "dask-workers", SCHEDULER, "--certificate", str(self.shared / "certificate")]
        self.second.start([*words, "--memory", "4"], self.environment, self.shared / "second.log")

    def make_whole(self) -> float:
        """Repair what a fault has left; return the seconds until both workers serve."""
        self.second.cable.loss = 0.0
        if not self.second.is_up:
            self.second.boot()
            self.start_workers()
        return wait_for(lambda: n_workers() == 2, START_S, "both workers")


@contextmanager
def hosts_at_work(shared: Path, more: Mapping[str, str] = {}) -> Iterator[TwoHosts]:
    """Start the two hosts, servers and workers, with more environment variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    environment |= CLIENT | {
        "PREFECT_API_URL": API,
        "PREFECT_API_AUTH_STRING": LOGIN,
        "GW_WORKFLOW_DASK_ADDRESS": SCHEDULER,
        "GW_WORKFLOW_DASK_CERTIFICATE": str(shared / "certificate"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
        **more,
    }
    certificate = str(shared / "certificate")
    with ExitStack() as opened:
        second = opened.enter_context(two_hosts(SEED))
        home = opened.enter_context(tempfile.TemporaryDirectory(prefix="gw-prefect-"))
        database = opened.enter_context(running_postgresql())
        serving = environment | SERVER | {"PREFECT_HOME": home, "PREFECT_SERVER_API_AUTH_STRING": LOGIN}
        if database is not None:
            serving["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.address
        words: tuple[str, ...] = (sys.executable, "-m", "prefect", "server", "start")
        words = (*words, "--host", ADDRESSES[0], "--port", "4200")
        opened.enter_context(_running(words, serving, Path(home) / "log"))
        subprocess.run([*COMMAND, "make-certificate", certificate], check=True, stdout=subprocess.DEVNULL)
        words = (*COMMAND, "dask-scheduler", "--host", ADDRESSES[0], "--certificate", certificate)
        opened.enter_context(_running(words, environment, shared / "scheduler.log"))
        words = (*COMMAND, "dask-workers", SCHEDULER, "--certificate", certificate, "--memory", "4")
        opened.enter_context(_running(words, environment, shared / "first.log"))
        hosts = TwoHosts(shared, second, database, environment)
        hosts.start_workers()
        wait_for(lambda: urllib.request.urlopen(f"{API}/health", timeout=5).status == 200, START_S, "Prefect server")
        hosts.make_whole()
        yield hosts


@contextmanager
def _running(words: tuple[str, ...], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("ab") as stream:
        process = subprocess.Popen(words, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()

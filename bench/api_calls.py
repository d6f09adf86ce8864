"""Runs started through the API of a served site: refused requests, waiting times, dead-lettered events.

A site is served with all deployments. Requests without retries create runs of a deployment that are scheduled for the
next day and cancel them: in an idle site, then while two processes run flows of many task runs. Each answer other than
success counts. Events that the server could not process lie in its folder of dead letters.

Then a flow of many task runs, as long as a small night, runs alone and while :data:`CROWD` clients search without
pause: how much slower it is, whether its heartbeats arrive, and how long health and ``status`` take meanwhile.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.report import Row, at_most, main
from blocks.site import Site
from deployments.checks.status import running_flows
from deployments.server.identity import authorization
from deployments.server.serve import serve
from deployments.server.server import is_healthy, server_for
from deployments.server.server_settings import HEARTBEAT_S

N_CALLS, N_QUICK = 1000, 200

PAUSE_S = 0.05
"""Seconds between two calls, so that they fall on every phase of the server's periodic work."""

DEPLOYMENT = "housekeeping/housekeeping"

BUSY_FLOWS = 2

LIMIT_S = 5.0
"""Limit of the longest answer."""

HEARTBEAT = "prefect.flow-run.heartbeat"
"""Name of the events that say that a run is alive."""

CROWD = 200
"""Clients that search without pause."""

CHEAP_S = 1.0
"""Limit of the answers of health and of status."""

SLOWER = 4.0 / 3.0
"""Limit of the ratio of the flow's times, in the crowd and alone."""

LOAD = """
from prefect import flow, task

@task
def small(number: int) -> int:
    return number

@flow
def many() -> int:
    return sum(future.result() for future in small.map(range(50)))

while True:
    many()
"""


NIGHT = """
import sys, time
from prefect import flow, task

@task
def small(number: int) -> float:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    return end

@flow(name="crowded")
def night(n: int) -> int:
    return len([small(number) for number in range(n)])

began = time.monotonic()
night(int(sys.argv[1]))
print(time.monotonic() - began)
"""

N_TASKS, N_FEW = 400, 100
"""Task runs of the flow, and in quick mode."""


@contextmanager
def served(site: Site) -> Iterator[str]:
    """Serve a site from a separate process; yield the address of the API."""
    words = [sys.executable, "-m", "bench.api_calls", "--serve", str(site.root)]
    folder = Path(__file__).parents[1]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def busy() -> Iterator[None]:
    """Run flows of many task runs from other processes inside the ``with`` block."""
    words = [sys.executable, "-c", LOAD]
    environment = os.environ | {"PREFECT_LOGGING_LEVEL": "CRITICAL"}
    started = [subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) for _ in range(BUSY_FLOWS)]
    try:
        time.sleep(15.0)  # until they run
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def post(api_url: str, what: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Send one request, without retries; return the status and the answer."""
    headers = {"Content-Type": "application/json", **authorization(api_url)}
    request = urllib.request.Request(f"{api_url}/{what}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None


def call(api_url: str, number: int) -> tuple[Counter[int], list[float]]:
    """Create and cancel runs; return how often each status was answered, and the seconds of each request."""
    named = urllib.request.Request(f"{api_url}/deployments/name/{DEPLOYMENT}", headers=authorization(api_url))
    with urllib.request.urlopen(named, timeout=30) as answer:
        deployment = json.load(answer)["id"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    scheduled = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": tomorrow}}}
    statuses: Counter[int] = Counter()
    seconds = []

    def ask(what: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        began = time.monotonic()
        status, document = post(api_url, what, body)
        seconds.append(time.monotonic() - began)
        statuses[status] += 1
        return document

    for _ in range(number // 2):
        run = ask(f"deployments/{deployment}/create_flow_run", scheduled)
        time.sleep(PAUSE_S)
        if run is not None:
            ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
        time.sleep(PAUSE_S)
    return statuses, seconds


@contextmanager
def crowd(api_url: str, answered: list[float], lost: list[str]) -> Iterator[None]:
    """Let clients search without pause inside the ``with`` block; note the seconds of each answer, and errors."""
    ended = threading.Event()

    def search() -> None:
        while not ended.is_set():
            began = time.monotonic()
            try:
                post(api_url, "flow_runs/filter", {"limit": 200})
            except OSError as error:
                lost.append(type(error).__name__)
            else:
                answered.append(time.monotonic() - began)

    threads = [threading.Thread(target=search, daemon=True) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(timeout=120)


def night_s(number: int, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Run the flow in a process of its own; return its seconds."""
    environment = os.environ | {"PREFECT_LOGGING_LEVEL": "CRITICAL"}
    words = [sys.executable, "-c", NIGHT, str(number)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            meanwhile()
            time.sleep(PAUSE_S)
        assert process.stdout is not None
        return float(process.stdout.read())


def measure_crowd(site: Site, api_url: str, number: int) -> list[Row]:
    """Measure a flow alone and in a crowd."""
    alone = night_s(number)
    answered: list[float] = []
    lost: list[str] = []
    questions: dict[str, Callable[[], bool]] = {
        "health": lambda: is_healthy(api_url, 60.0),
        "status": lambda: running_flows(site) is not None,
    }
    cheap: dict[str, list[float]] = {name: [] for name in questions}

    def look() -> None:
        for name, ask in questions.items():
            began = time.monotonic()
            if not ask():
                lost.append(name)
            cheap[name].append(time.monotonic() - began)

    with crowd(api_url, answered, lost):
        crowded = night_s(number, look)
    _, runs = post(api_url, "flow_runs/filter", {"flows": {"name": {"any_": ["crowded"]}}})
    n_complete = sum(run["state_type"] == "COMPLETED" and run["run_count"] == 1 for run in runs)
    time.sleep(5.0)  # until the last events are stored
    _, page = post(api_url, "events/filter", {"filter": {"event": {"name": [HEARTBEAT]}}})
    expected, n = sum(int(s // HEARTBEAT_S) for s in (alone, crowded)), len(answered)
    return [
        Row("flow alone", alone, "s", n=number),
        Row(f"{CROWD} clients: answers", n / crowded, "1/s", n=n),
        Row(f"{CROWD} clients: median answer", sorted(answered)[n // 2], "s", n=n),
        at_most(f"{CROWD} clients: flow, of its time alone", crowded / alone, "", SLOWER, n=number),
        at_most(f"{CROWD} clients: flows that did not complete at once", 2 - n_complete, "", 0, n=2),
        at_most(f"{CROWD} clients: connections lost, questions without answer", len(lost), "", 0, n=n),
        at_most(f"{CROWD} clients: heartbeats lost", max(expected - page["total"], 0), "", 0, n=expected),
        *(at_most(f"{CROWD} clients: longest {name}", max(s), "s", CHEAP_S, n=len(s)) for name, s in cheap.items()),
    ]


def rows(what: str, statuses: Counter[int], seconds: Sequence[float]) -> list[Row]:
    """Return the rows of one case."""
    refused = {status: n for status, n in statuses.items() if status >= 300}
    shown = f" ({', '.join(f'{n} x {status}' for status, n in sorted(refused.items()))})" if refused else ""
    n = len(seconds)
    return [
        at_most(f"{what}: calls refused{shown}", sum(refused.values()), "", 0, n=n),
        Row(f"{what}: median answer", sorted(seconds)[n // 2], "s", n=n),
        at_most(f"{what}: longest answer", max(seconds), "s", LIMIT_S, n=n),
    ]


def measure(quick: bool) -> list[Row]:
    """Measure an idle and a busy site; quick: with fewer calls."""
    os.environ.pop("PREFECT_API_URL", None)
    number = N_QUICK if quick else N_CALLS
    with tempfile.TemporaryDirectory() as folder:
        site = Site.at(Path(folder) / "site")
        with served(site) as api_url, server_for(site):
            found = rows("idle", *call(api_url, number))
            with busy():
                found += rows("busy", *call(api_url, number))
            found += measure_crowd(site, api_url, N_FEW if quick else N_TASKS)
        letters = len(list((site.state / "server" / "dlq").glob("*")))
    return [*found, at_most("events in the dead letters", letters, "", 0)]


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(Site.at(sys.argv[-1]), on_ready=lambda server: print(server.api_url, flush=True))
    else:
        main("Runs started through the API", measure)

"""Runs started through the API of a served site: refused requests, waiting times, dead-lettered events.

A site is served with all deployments. Requests without retries create runs of a deployment that are scheduled for the
next day and cancel them: in an idle site, then while two processes run flows of many task runs. Each answer other than
success counts. Events that the server could not process lie in its folder of dead letters.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.report import Row, at_most, main
from blocks.site import Site
from deployments.server.identity import authorization
from deployments.server.serve import serve
from deployments.server.server import server_for

N_CALLS, N_QUICK = 1000, 200

PAUSE_S = 0.05
"""Seconds between two calls, so that they fall on every phase of the server's periodic work."""

DEPLOYMENT = "housekeeping/housekeeping"

BUSY_FLOWS = 2

LIMIT_S = 5.0
"""Limit of the longest answer."""

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
        letters = len(list((site.state / "server" / "dlq").glob("*")))
    return [*found, at_most("events in the dead letters", letters, "", 0)]


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(Site.at(sys.argv[-1]), on_ready=lambda server: print(server.api_url, flush=True))
    else:
        main("Runs started through the API", measure)

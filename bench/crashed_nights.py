"""Time until a crashed night is shown as ``Crashed`` in the UI, and until a notification arrives.

A stand-in for a night, which only waits in a subflow, is served like a real one, and its process is killed (SIGKILL):
alone; together with the serving process; together with that and a restart of the server, as after a power cut. The time
is measured from the kill, or from the restart, until the night is Crashed, until its subflow is Crashed, and until a
notification arrives. If only the serving process died with the night, it is restarted at once.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from prefect import flow
from prefect.runtime import flow_run
from pydantic import SecretStr

from bench.receiver import receiving
from bench.report import Row, at_most, main
from blocks.folders import load_site
from blocks.notification import NotificationTarget
from blocks.site import Site
from deployments.server.definitions import Definition
from deployments.server.serve import serve
from deployments.server.server import server_for
from tasks.engine.final_state import keep_result

LIMIT_S = 60.0

GIVE_UP_S = 240.0

RESULTS = ("run Crashed", "subflow Crashed", "notification received")

NIGHT = Definition(
    name="process-night",
    entrypoint="bench/crashed_nights.py:slow_night",
    description="A stand-in for a night.",
    concurrency_limit={"limit": 1, "collision_strategy": "ENQUEUE"},
)


@flow(flow_run_name="called-by-the-night")
def called(minutes: float) -> None:
    """Wait."""
    time.sleep(60.0 * minutes)


@keep_result
@flow(name="process-night", flow_run_name="process-night")
def slow_night(site: str = "default", minutes: float = 10.0) -> None:
    """Write the process identifier, call a subflow, and wait there."""
    place = load_site(site)
    (place.root / f"{flow_run.id}.process").write_text(f"{os.getpid()}\n")
    called(minutes)


@contextmanager
def serving(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the stand-in from a separate process, without the heartbeats of a server managed elsewhere."""
    words = [sys.executable, "-m", "bench.crashed_nights", "--serve", str(site.root)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1]) as process:
        try:
            yield process
        finally:
            process.terminate()  # started in the background, it would ignore an interrupt
            process.wait(timeout=60)


def wait_for(what: Any, seconds: float = GIVE_UP_S) -> float | None:  # noqa: ANN401
    """Wait until a condition holds; return the elapsed seconds, or None after the timeout."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if what():
            return time.monotonic() - began
        time.sleep(0.5)
    return None


def start_night(client: Any, site: Site) -> tuple[Any, int]:  # noqa: ANN401
    """Start the stand-in through its deployment; return its run and its process."""
    wait_for(lambda: any(d.name == NIGHT.name for d in client.read_deployments()), 90.0)
    deployment = client.read_deployment_by_name(f"{NIGHT.name}/{NIGHT.name}")
    run = client.create_flow_run_from_deployment(deployment.id)
    note = site.root / f"{run.id}.process"
    if wait_for(note.exists, 120.0) is None:
        raise TimeoutError("the stand-in for the night was not started")
    time.sleep(8.0)  # until the subflow is running, too
    return run, int(note.read_text())


def state_names(client: Any, run: Any) -> list[str]:  # noqa: ANN401
    """Return the state names of a night and of its subflow."""
    called_runs = [r for r in client.read_flow_runs(limit=50) if r.parent_task_run_id and r.created >= run.created]
    return [str(r.state_name) for r in (client.read_flow_run(run.id), *called_runs)]


def crash(site: Site, victims: Sequence[str]) -> dict[str, float | None]:
    """Kill a served night and other processes; return the seconds until each of :data:`RESULTS`.

    Parameters
    ----------
    site
        A site.
    victims
        Some of ``night``, ``serving``, ``server``.
    """
    from prefect import get_client

    with receiving() as (address, texts):
        with server_for(site), get_client(sync_client=True) as client:
            NotificationTarget(webhook=SecretStr(address)).save("default", overwrite=True)
            with serving(site) as process:
                run, night = start_night(client, site)
                if "serving" in victims:
                    process.kill()
                _kill(night)
                if "server" not in victims:
                    return _times(client, run, texts, site, again="serving" in victims)
        with server_for(site), get_client(sync_client=True) as client, serving(site):
            return _times(client, run, texts, site, again=False)


def _kill(process: int) -> None:
    """Kill a process and its children."""
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    for member in family:
        member.kill()


def _times(client: Any, run: Any, texts: list[str], site: Site, *, again: bool) -> dict[str, float | None]:  # noqa: ANN401
    """Wait until all :data:`RESULTS` are reached; return the seconds of each."""
    conditions = {
        RESULTS[0]: lambda: state_names(client, run)[0] == "Crashed",
        RESULTS[1]: lambda: set(state_names(client, run)) == {"Crashed"},
        RESULTS[2]: lambda: bool(texts),
    }
    found: dict[str, float | None] = dict.fromkeys(conditions)
    began = time.monotonic()

    def look() -> bool:
        for name, condition in conditions.items():
            if found[name] is None and condition():
                found[name] = time.monotonic() - began
        return None not in found.values()

    with serving(site) if again else server_for(site):
        wait_for(look)
    return found


CASES = {
    "night killed": ("night",),
    "night and serving process killed": ("night", "serving"),
    "night and serving process killed, server restarted; since the restart": ("night", "serving", "server"),
}


def measure(quick: bool) -> list[Row]:
    """Measure the cases; quick: the first."""
    os.environ.pop("PREFECT_API_URL", None)
    rows = []
    for what, victims in list(CASES.items())[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            seconds = crash(Site.at(Path(folder) / "site"), victims)
        rows += [at_most(f"{what}: {result}", value, "s", LIMIT_S) for result, value in seconds.items()]
    return rows


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(Site.at(sys.argv[-1]), definitions=[NIGHT])
    else:
        main("How soon a crashed night is known", measure)

"""Serving a site: a registered night starts a run, nothing pending is lost, an interrupt ends everything."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from listed_nights import NIGHT, check_map, write_list
from prefect import get_client
from prefect.deployments import run_deployment
from prefect.states import Cancelling

from blocks.night_runs import is_alive, read_runs
from blocks.nights import read_night
from blocks.site import Site
from deployments.events.decisions import nights_to_do
from deployments.events.registry import announce, register_night
from deployments.server.automations import ZOMBIES
from deployments.server.server import ask_server, is_healthy, known_address, server_for, wait_until_stopped
from tasks.engine.limits import slot
from tasks.steps import EXPOSURES

pytestmark = pytest.mark.server

SERVE = """
import sys
from pathlib import Path
from blocks.site import Site
from deployments.server.definitions import read_definitions
from deployments.server.serve import serve

toys = read_definitions(Path(sys.argv[2]))
serve(Site.at(sys.argv[1]), definitions=toys, limit=1, on_ready=lambda server: print(server.api_url, flush=True))
print("ended", flush=True)
"""

TOY = """
  - name: {name}
    entrypoint: toy_flows.py:{flow}
    description: A toy.
    concurrency_limit: {{limit: 1, collision_strategy: ENQUEUE}}
"""

LISTED = [900001, 1300001, 1300002]

TOYS = [("process-night", "toy_night"), ("rank-night", "toy_rank")]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    for name in ("PREFECT_API_URL", "GW_WORKFLOW_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return Site.at(tmp_path / "site")


@pytest.fixture
def register(site, tmp_path):
    def do(event="GW170817", night=NIGHT, **changes):
        skymap = tmp_path / "map.fits"
        skymap.write_bytes(b"SIMPLE map")
        exposures = write_list(tmp_path / "list.csv", LISTED[1:], night=night)
        return register_night(
            site, night, event=event, skymap=skymap, exposures=exposures, check_skymap=check_map, **changes
        ).night

    return do


@pytest.fixture
def served(site, each_database, tmp_path):
    """A process that serves the site, with each kind of database; it is ended after the test."""
    declared = tmp_path / "prefect.yaml"
    toys = [TOY.format(name=name, flow=flow) for name, flow in TOYS]
    declared.write_text("".join(["deployments:", *toys]))
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[3])]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(site.root), str(declared)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


def wait_for(path: Path, seconds: float = 60.0) -> dict:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.2)
    time.sleep(0.2)
    return json.loads(path.read_text())


def wait_until(condition, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def names(api_url: str) -> list[str]:
    return [run["name"] for run in ask_server(api_url, "flow_runs/filter", {"limit": 50})]


def automations(api_url: str) -> set[str]:
    return {automation["name"] for automation in ask_server(api_url, "automations/filter", {})}


def test_a_registered_night_starts_a_run_and_an_interrupt_ends_all(site, register, served, each_database, tmp_path):
    register()  # no server runs
    api_url = served.stdout.readline().strip()
    assert is_healthy(api_url)
    assert known_address(site) == api_url
    assert (site.state / "server" / "prefect.db").exists() == (each_database == "sqlite")
    assert wait_for(site.root / "ran.json") == {"night": NIGHT, "revision": 1}
    assert automations(api_url) >= {ZOMBIES}
    assert wait_until(lambda: [run.end for run in read_runs(read_night(site, NIGHT))] == ["completed"])

    # A night registered while the server runs; its runs are named before they start.
    (site.root / "started.json").unlink()
    (site.root / "ran.json").unlink()
    shutil.rmtree(site.nights / str(NIGHT))
    slow = register(event="SLOW")
    wait_for(site.root / "started.json")
    # A ranking does not wait for the night, nor for exposures, although only one exposure may go on at once.
    with server_for(site) as server, slot(EXPOSURES):
        assert server.api_url == api_url
        register(night=NIGHT + 1)
        assert wait_until(lambda: f"process-night-{NIGHT + 1}-r1" in names(api_url)), "it waits, under its name"
        run_deployment("rank-night/rank-night", parameters={"night": NIGHT + 1}, timeout=0)
        assert wait_for(site.root / "ranked.json") == {"night": NIGHT + 1, "revision": 1}
        with get_client(sync_client=True) as client:
            (waiting,) = [run for run in client.read_flow_runs() if run.name == f"process-night-{NIGHT + 1}-r1"]
            states = [state.name for state in client.read_flow_run_states(waiting.id)]
            assert states.count("AwaitingConcurrencySlot") <= 2, "waiting writes at most a state a minute"
            (site.root / "started.json").unlink()
            client.set_flow_run_state(UUID(read_runs(slow)[0].run), Cancelling())
        # What a person cancels ends, stays so, and the next one starts without waiting for a minute.
        assert wait_until(lambda: [run.end for run in read_runs(slow)] == ["cancelled"])
        assert wait_for(site.root / "ran.json") == {"night": NIGHT + 1, "revision": 1}
        assert "cancelled" in nights_to_do(site)[NIGHT].held
        (site.root / "started.json").unlink()
        slow = register(event="SLOW", night=NIGHT + 2)
        wait_for(site.root / "started.json")

    (run,) = read_runs(slow)
    assert is_alive(slow, run)
    children = psutil.Process(served.pid).children(recursive=True)
    assert children
    served.send_signal(signal.SIGINT)
    served.wait(timeout=30)
    assert served.returncode == 0
    assert served.stdout.read() == "ended\n"
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive
    assert wait_until_stopped(site)
    assert not is_alive(slow, run)
    assert read_runs(slow)[0].end == "running", "the next server repeats it: nobody has cancelled it"


def test_an_event_that_nobody_hears_is_an_error(site, register, monkeypatch):
    night = register()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(OSError, match="onnect"):
        announce(night)

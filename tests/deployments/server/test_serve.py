"""Serving a site: a registered night starts a run, nothing pending is lost, an interrupt ends everything."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import psutil
import pytest
from listed_nights import NIGHT, check_map, write_list

from blocks.nights import EVENT_NAME, read_night
from blocks.site import Site
from blocks.skymaps import EVENT_NAME as NEW_MAP
from deployments.events.registry import announce, register_night
from deployments.server.automations import ZOMBIES
from deployments.server.server import is_healthy, known_address, server_for, wait_until_stopped
from tasks.engine.events import emit
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
    triggers:
      - type: event
        expect: [{event}]
        name: {name}-on-event
        match: {{prefect.resource.id: gw.night.*}}
        parameters:
          event:
            __prefect_kind: json
            value: {{__prefect_kind: jinja, template: "{{{{ event.payload | tojson }}}}"}}
"""

TOYS = [("toy-night", "toy_night", EVENT_NAME), ("toy-rank", "toy_rank", NEW_MAP)]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    for name in ("PREFECT_API_URL", "GW_WORKFLOW_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return Site.at(tmp_path / "site")


@pytest.fixture
def register(site, tmp_path):
    def do(event="GW170817", **changes):
        skymap = tmp_path / "map.fits"
        skymap.write_bytes(b"SIMPLE map")
        exposures = write_list(tmp_path / "list.csv", [1300001, 1300002])
        return register_night(
            site, NIGHT, event=event, skymap=skymap, exposures=exposures, check_skymap=check_map, **changes
        ).night

    return do


@pytest.fixture
def served(site, each_database, tmp_path):
    """A process that serves the site, with each kind of database; it is ended after the test."""
    declared = tmp_path / "prefect.yaml"
    toys = [TOY.format(name=name, flow=flow, event=event) for name, flow, event in TOYS]
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


def automations(api_url: str) -> set[str]:
    request = urllib.request.Request(f"{api_url}/automations/filter", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {automation["name"] for automation in json.load(answer)}


def test_a_registered_night_starts_a_run_and_an_interrupt_ends_all(site, register, served, each_database):
    pending = register()
    api_url = served.stdout.readline().strip()
    assert is_healthy(api_url)
    assert known_address(site) == api_url
    assert (site.state / "server" / "prefect.db").exists() == (each_database == "sqlite")
    # The night was registered when no server ran; it is announced now.
    assert wait_for(site.root / "ran.json") == json.loads(json.dumps(pending.record.payload()))
    assert read_night(site, NIGHT).is_started()
    assert automations(api_url) >= {"toy-night-on-event", ZOMBIES}

    # A second revision, registered while the server runs, starts a second run.
    (site.root / "ran.json").unlink()
    (site.root / "started.json").unlink()
    (site.nights / str(NIGHT) / "night.json").unlink()
    slow = register(event="SLOW")
    with server_for(site) as server:
        assert server.api_url == api_url
        announce(slow)
        wait_for(site.root / "started.json")
        # A ranking does not wait for the night, nor for exposures, although only one exposure may go on at once.
        with slot(EXPOSURES):
            emit(NEW_MAP, uuid.uuid4(), f"gw.night.{NIGHT}", about="a map", payload={"night": NIGHT})
            assert wait_for(site.root / "ranked.json") == {"night": NIGHT}

    children = psutil.Process(served.pid).children(recursive=True)
    assert children
    served.send_signal(signal.SIGINT)
    served.wait(timeout=30)
    assert served.returncode == 0
    assert served.stdout.read() == "ended\n"
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive
    assert wait_until_stopped(site)
    assert not (site.root / "ran.json").exists()


def test_an_event_that_nobody_hears_is_an_error(site, register, monkeypatch):
    night = register()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(OSError, match="onnect"):
        announce(night)
    assert not (night.folder / "revision-1.emitted").exists()

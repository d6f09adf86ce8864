"""What ``prefect.yaml`` declares and what is served are the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from listed_nights import NIGHT, check_map, write_list
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter, FlowRunFilterName
from prefect.utilities.callables import parameter_schema

from blocks.nights import read_night
from blocks.site import Site
from deployments.checks.doctor import BLOCKS
from deployments.events.registry import announce, register_night
from deployments.server.automations import ZOMBIES
from deployments.server.definitions import DEFINITIONS, load_flow
from deployments.server.deploy import CONCURRENT_RUNS
from deployments.server.server import server_for
from deployments.server.server_settings import CLIENT
from tasks.requests import ExposureRequest
from tasks.steps import LIMITS

ROOT = Path(__file__).parents[3]
DECLARED = {d["name"]: d for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


def test_the_same_deployments_are_declared():
    assert list(DECLARED) == [definition.name for definition in DEFINITIONS]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_a_deployment_is_declared_as_it_is_served(definition):
    declared = DECLARED[definition.name]
    assert declared["entrypoint"] == definition.entrypoint
    assert declared["description"] == definition.description
    assert tuple(declared["tags"]) == definition.tags
    assert declared["concurrency_limit"] == {"limit": definition.limit, "collision_strategy": "ENQUEUE"}
    assert declared.get("triggers", []) == ([definition.trigger()] if definition.event else [])
    schedules = [
        {"cron": s.cron, "timezone": s.timezone, "slug": s.slug, "active": s.active} for s in [definition.schedule] if s
    ]
    assert declared.get("schedules", []) == schedules


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_a_flow_lies_where_its_deployment_says(definition):
    path = ROOT / definition.entrypoint.partition(":")[0]
    assert f"def {definition.entrypoint.partition(':')[2]}(" in path.read_text()


@pytest.mark.parametrize("folder", ["flows", "deployments"])
def test_no_module_beside_an_entrypoint_hides_one_of_python(folder):
    """Prefect puts the folder of an entrypoint in front of all others, and so do the processes of the workers."""
    assert {path.stem for path in (ROOT / folder).glob("*.py")} & sys.stdlib_module_names == set()


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_the_form_of_a_run_says_what_every_parameter_means(definition):
    properties = parameter_schema(load_flow(definition)).properties
    assert [name for name, about in properties.items() if not about.get("description")] == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_the_settings_do_not_hide_what_is_asked_for_more_often(definition):
    """They are a long form of their own; whatever comes after them on the page is found by nobody."""
    properties = parameter_schema(load_flow(definition)).properties
    names = sorted(properties, key=lambda name: properties[name]["position"])
    assert "settings" not in names[:-1]


def test_the_form_of_an_exposure_begins_with_what_names_it():
    assert list(ExposureRequest.model_json_schema()["properties"])[:4] == ["expnum", "band", "night", "rnum"]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The environment of a machine that uses a server which runs elsewhere; this process uses it, too."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with server_for(Site.at(tmp_path / "elsewhere")) as server:
        paths = {"PREFECT_API_URL": server.api_url, "GW_WORKFLOW_ROOT": str(tmp_path / "site"), "PYTHONPATH": str(ROOT)}
        yield os.environ | CLIENT | paths | {"PREFECT_LOGGING_LEVEL": "WARNING"}


@pytest.mark.slow
@pytest.mark.server
def test_a_plain_server_and_a_worker_do_what_an_event_asks_for(environment, tmp_path):
    """Deploy by one command, start a worker, register a night: the event starts its run in the worker."""
    command = [sys.executable, "-m", "deployments.cli.main", "deploy", "--site", str(tmp_path / "site"), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["deployments"] == [definition.name for definition in DEFINITIONS]
    with get_client(sync_client=True) as client:
        found = {d.name: d for d in client.read_deployments()}
        automations = {a.name for a in client.read_automations()}
        pool = client.read_work_pool("gw-workflow")
        limits = {limit.name: limit.limit for limit in client.read_global_concurrency_limits(limit=50)}
        blocks = {document.block_type.slug for document in client.read_block_documents() if document.name == "default"}
        wait_for(lambda: client.read_flow_runs(deployment_filter=DeploymentFilter(name={"any_": ["watch-incoming"]})))
    assert set(found) == {definition.name for definition in DEFINITIONS}
    assert (pool.type, pool.concurrency_limit) == ("process", CONCURRENT_RUNS)
    assert automations >= {"process-night-on-event", "process-exposure-on-event", "prepare-templates-on-event", ZOMBIES}
    assert limits.items() >= LIMITS.items()
    assert blocks >= set(BLOCKS)
    assert [s.active for s in found["watch-incoming"].schedules] == [True]
    assert found["process-night"].global_concurrency_limit.limit == 1

    # The block has to name a site; the raw file of its only exposure is missing, which the run has to say.
    site = Site.at(tmp_path / "site")
    skymap = tmp_path / "map.fits"
    skymap.write_bytes(b"SIMPLE map")
    exposures = write_list(tmp_path / "list.csv", [1300001], templates=())
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "gw-workflow", "--limit", "1"]
    log = tmp_path / "worker.log"
    with log.open("wb") as written, subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=written) as worker:
        try:
            announce(
                register_night(
                    site, NIGHT, event="GW170817", skymap=skymap, exposures=exposures, check_skymap=check_map
                ).night
            )
            run = wait_for_end(f"process-night-{NIGHT}")
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    assert run.parameters["event"]["exposures"] == [1300001], "lists stay lists"
    assert run.state_name == "Failed"
    assert "1 exposures, 0 searched" in run.state.message
    assert "Traceback" not in log.read_text(), "a night that fails is no surprise"
    assert read_night(site, NIGHT).is_started()


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(1.0)
    return found


def wait_for_end(name):
    def ended():
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
        return found[0] if found and found[0].state and found[0].state.is_final() else None

    with get_client(sync_client=True) as client:
        return wait_for(ended)

"""``prefect.yaml`` declares the deployments; what is served and what is deployed come from it."""

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

from blocks.night_runs import read_runs
from blocks.nights import EVENT_NAME as NIGHT_REGISTERED
from blocks.nights import read_night
from blocks.plans import EVENT_NAME as POINTINGS_PLANNED
from blocks.site import Site
from blocks.skymaps import EVENT_NAME as SKYMAP_RECEIVED
from deployments.checks.doctor import BLOCKS
from deployments.events.registry import announce, register_night
from deployments.server.automations import ZOMBIES
from deployments.server.definitions import DECLARATION, DEFINITIONS, served_definition, served_deployment
from deployments.server.deploy import CONCURRENT_RUNS
from deployments.server.server import server_for
from deployments.server.server_settings import CLIENT
from tasks.requests import ExposureRequest
from tasks.steps import LIMITS

ROOT = Path(__file__).parents[3]
DECLARED = {d["name"]: d for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
EMITTED = {NIGHT_REGISTERED, POINTINGS_PLANNED, SKYMAP_RECEIVED, "gw.event.received", "gw.event.retracted"}
"""Events that start deployments."""


def test_the_package_holds_the_declaration_of_the_checkout():
    assert DECLARATION.resolve() == ROOT / "prefect.yaml"
    assert [definition.name for definition in DEFINITIONS] == list(DECLARED)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_a_deployment_is_served_as_it_is_declared(definition):
    declared, served = DECLARED[definition.name], served_deployment(served_definition(definition), "mountain")
    assert (served.name, served.description) == (definition.name, declared["description"])
    assert served.entrypoint == declared["entrypoint"].replace("/", ".").replace(".py:", ".")
    assert list(served.tags) == declared["tags"]
    assert served.parameters == declared["parameters"] | {"site": "mountain"}
    assert {"limit": served.concurrency_limit, "collision_strategy": served.concurrency_options.collision_strategy} == (
        declared["concurrency_limit"]
    )
    triggers = [t.model_dump(mode="json") for t in served.triggers]
    for trigger, of_file in zip(triggers, declared.get("triggers", []), strict=True):
        assert sorted(trigger.pop("expect")) == sorted(of_file.pop("expect"))
    assert [{k: t[k] for k in d} for t, d in zip(triggers, declared.get("triggers", []), strict=True)] == (
        declared.get("triggers", [])
    )
    schedules = [
        {"cron": s.schedule.cron, "timezone": s.schedule.timezone, "slug": s.slug, "active": s.active}
        for s in served.schedules or ()
    ]
    is_done_by_serve = definition.name == "watch-incoming"
    assert schedules == [s | ({"active": False} if is_done_by_serve else {}) for s in declared.get("schedules", [])]


def test_every_trigger_waits_for_an_event_that_is_emitted():
    triggers = [trigger for definition in DEFINITIONS for trigger in definition.triggers]
    assert {name for trigger in triggers for name in trigger["expect"]} == EMITTED
    assert [trigger["name"] for trigger in triggers] == [f"{d.name}-on-event" for d in DEFINITIONS if d.triggers]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_runs_wait_for_each_other(definition):
    assert definition.concurrency_limit["collision_strategy"] == "ENQUEUE"
    assert definition.concurrency_limit["limit"] in (1, 2)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_a_flow_lies_where_its_deployment_says(definition):
    path = ROOT / definition.entrypoint.partition(":")[0]
    assert f"def {definition.entrypoint.partition(':')[2]}(" in path.read_text()


@pytest.mark.parametrize("folder", sorted({(ROOT / d.entrypoint.partition(":")[0]).parent for d in DEFINITIONS}))
def test_no_module_beside_an_entrypoint_hides_one_of_python(folder):
    """Prefect puts the folder of an entrypoint in front of all others, and so do the processes of the workers."""
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & (sys.stdlib_module_names | {path.name for path in ROOT.iterdir() if path.is_dir()}) == set()


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_the_form_of_a_run_says_what_every_parameter_means(definition):
    properties = parameter_schema(definition.load_flow()).properties
    assert [name for name, about in properties.items() if not about.get("description")] == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_the_settings_do_not_hide_what_is_asked_for_more_often(definition):
    """They are a long form of their own; whatever comes after them on the page is found by nobody."""
    properties = parameter_schema(definition.load_flow()).properties
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
    assert automations >= {"watch-incoming-on-event", "prepare-templates-on-event", ZOMBIES}
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
            run = wait_for_end(f"process-night-{NIGHT}-r1")
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    assert run.parameters["night"] == NIGHT
    assert run.state_name == "Failed"
    assert "1 exposures, 0 searched" in run.state.message
    assert "Traceback" not in log.read_text(), "a night that fails is no surprise"
    (record,) = read_runs(read_night(site, NIGHT))
    assert (record.run, record.end, record.revision) == (str(run.id), "completed", 1)


def wait_for(condition, seconds=300.0):
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

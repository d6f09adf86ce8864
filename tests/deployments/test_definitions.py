"""What ``prefect.yaml`` declares and what is served are the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect import get_client
from prefect.settings import PREFECT_API_URL

from deployments.definitions import DEFINITIONS

ROOT = Path(__file__).parents[2]
DECLARED = {d["name"]: d for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


def test_the_same_deployments_are_declared():
    assert list(DECLARED) == [definition.name for definition in DEFINITIONS]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_a_deployment_is_declared_as_it_is_served(definition):
    declared = DECLARED[definition.name]
    assert declared["entrypoint"] == definition.entrypoint
    assert declared["description"] == definition.description
    assert declared["concurrency_limit"] == {"limit": definition.limit, "collision_strategy": "ENQUEUE"}
    assert declared.get("triggers", []) == ([definition.trigger()] if definition.event else [])
    schedules = [
        {"cron": s.cron, "timezone": s.timezone, "slug": s.slug, "active": False} for s in [definition.schedule] if s
    ]
    assert declared.get("schedules", []) == schedules


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_a_flow_lies_where_its_deployment_says(definition):
    path = ROOT / definition.entrypoint.partition(":")[0]
    assert f"def {definition.entrypoint.partition(':')[2]}(" in path.read_text()


@pytest.mark.server
def test_all_deployments_are_deployed_by_one_command_without_questions(prefect_server):
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_LOGGING_LEVEL": "WARNING"}

    def prefect(*words):
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "--type", "process", "gw-workflow")
    prefect("deploy", "--all")
    with get_client(sync_client=True) as client:
        found = {d.name: d for d in client.read_deployments()}
        automations = client.read_automations()
    assert set(found) >= {definition.name for definition in DEFINITIONS}
    assert found["process-night"].parameters == {"site": "default"}
    assert [s.active for s in found["process-night"].schedules] == [False]
    assert found["process-night"].global_concurrency_limit.limit == 1
    triggers = [a.trigger for a in automations if getattr(a.trigger, "expect", None) == {"gw.night.registered"}]
    assert len(triggers) == 1
    properties = found["process-night"].parameter_openapi_schema["properties"]
    assert {"night", "event", "site", "settings", "overwrite"} <= set(properties), "the page shows a form"

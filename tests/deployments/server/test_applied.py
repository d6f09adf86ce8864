"""What somebody changed on the pages stays when deployments and limits are applied again; changed defaults arrive."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from blocks.site import Site
from deployments.server.applied import (
    Applied,
    adjusted,
    ask_with,
    default_settings,
    merged,
    merged_limit,
    pause_deployments,
    plan_deployments,
    settings_on_server,
)
from deployments.server.definitions import DEFINITIONS, served_deployment
from deployments.server.deploy import CONCURRENT_RUNS, POOL, deploy
from deployments.server.limits import create_limits
from deployments.server.serve import only_one, serve
from deployments.server.server import server_for
from imaging.errors import InputError
from tasks.steps import EXPOSURES, LIMITS

ROOT = Path(__file__).parents[3]
CHOSEN = [d for d in DEFINITIONS if d.name in ("prepare-templates", "housekeeping", "build-sky-modes")]
DUSK = "schedule at-dusk"


@pytest.mark.parametrize(
    ("server", "applied", "default", "wanted"),
    [
        (None, None, 1, 1),
        (1, 1, 1, 1),
        (3, 1, 1, 3),  # somebody's
        (1, 1, 2, 2),  # the code's default has changed, and nobody has touched it
        (3, 1, 2, 3),
        (3, None, 1, 3),  # unknown: nothing is overwritten
    ],
)
def test_three_values_decide(server, applied, default, wanted):
    def settings(value):
        return None if value is None else {"limit": value}

    assert merged(settings(server), settings(applied), settings(default)) == {"limit": wanted}
    assert merged_limit(server, applied, default) == wanted


def test_schedules_come_and_go_and_triggers_are_not_lost():
    default = {"schedule a": 1, "trigger t": True}
    assert merged({"trigger t": False}, default, default) == {"trigger t": False}, "a schedule that was removed"
    assert merged({"schedule a": 1, "schedule cron *": 2}, default, default) == default | {"schedule cron *": 2}
    assert merged({"schedule a": 1, "trigger other": False}, default, default) == default, "another's trigger"
    assert merged({"schedule old": 1}, {"schedule old": 1}, default) == default, "replaced by the code"
    assert merged({"paused": True}, None, {"paused": False}) == {"paused": False}, (
        "earlier versions paused at their end"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        here = Site.at(tmp_path_factory.mktemp("applied") / "site")
        with server_for(here):
            yield here


def applied_again(site, definitions=CHOSEN):
    """Do what ``serve`` does with deployments; return the settings on the server."""
    applied = Applied.read(site.state / "server", "embedded")
    with get_client(sync_client=True) as client:
        for definition, paused in plan_deployments(ask_with(client), applied, definitions):
            served_deployment(definition, "here", paused=paused).apply()
        applied.write()
        return applied, settings_on_server(ask_with(client))


def own(settings, definition):
    """Leave out the triggers of other deployments."""
    names = {f"trigger {trigger['name']}" for trigger in definition.triggers}
    return {k: v for k, v in settings.items() if k in names or not k.startswith("trigger ")}


def change(name, **values):
    """Change a deployment as the pages do."""
    with get_client(sync_client=True) as client:
        found = next(d for d in client.read_deployments() if d.name == name)
        client.update_deployment(found.id, DeploymentUpdate(**values))
        return found


@pytest.mark.server
def test_what_was_changed_on_the_pages_stays(site):
    _, found = applied_again(site)
    for definition in CHOSEN:
        assert own(found[definition.name], definition) == default_settings(definition)

    with get_client(sync_client=True) as client:
        trigger = client.read_automations_by_name("prepare-templates-on-event")[0]
        client.pause_automation(trigger.id)
        dusk = next(d for d in client.read_deployments() if d.name == "prepare-templates")
        client.update_deployment_schedule(dusk.id, dusk.schedules[0].id, active=False)
        client.create_deployment_schedules(
            dusk.id,
            [(CronSchedule(cron="5 4 * * *", timezone="UTC"), True), (IntervalSchedule(interval=3600), False)],
        )
    change("housekeeping", concurrency_limit=4)
    change("build-sky-modes", paused=True)
    _, changed = applied_again(site)
    assert changed["prepare-templates"]["trigger prepare-templates-on-event"] is False
    assert changed["prepare-templates"][DUSK] == found["prepare-templates"][DUSK] | {"active": False}
    assert changed["prepare-templates"]["schedule cron 5 4 * * *"] == {
        "cron": "5 4 * * *",
        "timezone": "UTC",
        "active": True,
    }
    assert changed["prepare-templates"]["schedule interval 3600.0"]["active"] is False
    assert (changed["housekeeping"]["limit"], changed["housekeeping"]["collision_strategy"]) == (4, "ENQUEUE")
    assert changed["build-sky-modes"]["paused"] is True

    # The code's new defaults arrive where nobody has changed them.
    update = {"concurrency_limit": {"limit": 2, "collision_strategy": "ENQUEUE"}}
    applied, renewed = applied_again(site, [d.model_copy(update=update) for d in CHOSEN])
    assert [renewed[d.name]["limit"] for d in CHOSEN] == [
        {"housekeeping": 4}.get(definition.name, 2) for definition in CHOSEN
    ]
    assert {k: v for k, v in renewed["prepare-templates"].items() if k != "limit"} == {
        k: v for k, v in changed["prepare-templates"].items() if k != "limit"
    }

    # At its end serve pauses; the next one resumes, but not what somebody has paused.
    pause_deployments(applied)
    with get_client(sync_client=True) as client:
        assert all(s["paused"] for s in settings_on_server(ask_with(client)).values())
    _, resumed = applied_again(site)
    assert {name: s["paused"] for name, s in resumed.items()} == {d.name: d.name == "build-sky-modes" for d in CHOSEN}


@pytest.mark.server
def test_limits_that_were_changed_stay(site):
    def limits():
        applied = Applied.read(site.state / "server", "embedded")
        create_limits(applied)
        applied.write()
        with get_client(sync_client=True) as client:
            return {limit.name: limit.limit for limit in client.read_global_concurrency_limits(limit=50)}

    assert limits().items() >= LIMITS.items()
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("gw-disk", 5)
    create_limits(Applied.read(site.state / "server", "embedded"), 3)  # serve --limit 3
    assert limits().items() >= (LIMITS | {"gw-disk": 5, EXPOSURES: 3}).items()


@pytest.mark.server
def test_deploy_keeps_changes_too(site, tmp_path):
    here = Site.at(tmp_path)
    assert deploy(here, ROOT) == tuple(d.name for d in DEFINITIONS)
    with get_client(sync_client=True) as client:
        trigger = client.read_automations_by_name("prepare-templates-on-event")[0]
        client.pause_automation(trigger.id)
    found = change("export", concurrency_limit=6)
    with get_client(sync_client=True) as client:
        client.update_deployment_schedule(
            next(d for d in client.read_deployments() if d.name == "housekeeping").id,
            next(d for d in client.read_deployments() if d.name == "housekeeping").schedules[0].id,
            active=False,
        )
    deploy(here, ROOT)
    with get_client(sync_client=True) as client:
        settings = settings_on_server(ask_with(client))
        assert client.read_deployment(found.id).work_pool_name == POOL
        assert client.read_work_pool(POOL).concurrency_limit == CONCURRENT_RUNS
    assert settings["export"]["limit"] == 6
    assert settings["housekeeping"]["schedule every-afternoon"]["active"] is False
    assert settings["prepare-templates"]["trigger prepare-templates-on-event"] is False
    others = [
        d for d in DEFINITIONS if d.name not in ("export", "housekeeping", "prepare-templates", "build-sky-modes")
    ]
    for definition in others:
        assert own(settings[definition.name], definition) == default_settings(definition)


SERVE = """
import sys, time
from blocks.site import Site
from deployments.server.serve import only_one
with only_one(Site.at(sys.argv[1])):
    print("alone", flush=True)
    time.sleep(60)
"""


def test_a_site_is_served_once(tmp_path):
    here = Site.at(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", SERVE, str(here.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stdout.readline() == "alone\n"
        told = rf"served already.*process {first.pid} of \S+ on {socket.gethostname()}.*stop that process"
        with pytest.raises(InputError, match=told):
            serve(here)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with only_one(here):
            assert f"process {os.getpid()} " in (here.state / "server" / "serve.lock").read_text()


def test_a_definition_without_changes_is_itself():
    for definition in DEFINITIONS:
        same = adjusted(definition, default_settings(definition))
        assert same.concurrency_limit == definition.concurrency_limit
        assert [dict(s) for s in same.schedules] == [dict(s) for s in definition.schedules]
        assert [t | {"enabled": True} for t in definition.triggers] == list(same.triggers)

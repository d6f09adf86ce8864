"""What the doctor finds on a site, and what it says to do."""

import json
from types import SimpleNamespace

import pytest
from test_registry import NIGHT, check_map, write_list

from blocks.site import Site
from deployments import doctor
from deployments.automations import ZOMBIES
from deployments.cli import main
from deployments.definitions import DEFINITIONS
from deployments.registry import register_night
from imaging.identity import ExposureId
from tasks.raw_files import raw_path


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(doctor, "known_address", lambda site: None)
    return Site.at(tmp_path / "site")


@pytest.fixture
def night(site, tmp_path):
    skymap = tmp_path / "map.fits"
    skymap.write_bytes(b"SIMPLE map")
    exposures = write_list(tmp_path / "list.csv", [1300001, 1300002])
    return register_night(
        site, NIGHT, event="GW170817", skymap=skymap, exposures=exposures, check_skymap=check_map
    ).night


def by_check(findings):
    return {finding.check.partition(": ")[2] or finding.check: finding for finding in findings}


def test_an_empty_site_is_told_what_it_lacks(site, night):
    found = by_check(doctor.examine(site))
    assert found["server"].verdict == "warning"
    assert found["file locks"].verdict == "good"
    assert found["raw files"].found == "3 of 3 are not there: 900001, 1300001, 1300002"
    assert found["calibrations"].verdict == "bad"
    assert "there is no calibration library" in found["calibrations"].found
    assert found["reference stars"].verdict == "bad"
    assert found["sky map"].verdict == "bad", "a file that is no sky map"
    assert all(finding.remedy for finding in found.values() if finding.verdict != "good")


def test_files_that_come_are_seen(site, night):
    for item in night.listed():
        path = raw_path(site, ExposureId(item.exposure.expnum, item.exposure.band, item.exposure.night))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert by_check(doctor.examine(site))["raw files"].verdict == "good"


@pytest.mark.parametrize(("free_gb", "verdict"), [(5.0, "bad"), (100.0, "warning"), (900.0, "good")])
def test_the_free_disk_is_judged(site, monkeypatch, free_gb, verdict):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gb * 1e9))
    assert by_check(doctor.check_machine(site))["disk of products"].verdict == verdict


def test_a_named_server_that_is_down_is_bad(site, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (found,) = doctor.check_server(site)
    assert (found.verdict, found.remedy) == ("bad", "start it, or unset PREFECT_API_URL")


@pytest.fixture
def server(site, monkeypatch):
    """A server that says what the test puts into its answers."""
    answers = {
        "deployments/filter": [{"name": d.name, "status": "READY"} for d in DEFINITIONS],
        "automations/filter": [
            {"name": name, "enabled": True}
            for name in [ZOMBIES] + [f"{d.name}-on-event" for d in DEFINITIONS if d.event]
        ],
    }
    monkeypatch.setenv("PREFECT_API_URL", "http://server/api")
    monkeypatch.setattr(doctor, "is_healthy", lambda url: True)
    monkeypatch.setattr(doctor, "ask_server", lambda url, what, question: answers[what])
    return answers


def test_a_server_with_everything_is_good(site, server):
    assert {finding.verdict for finding in doctor.check_server(site)} == {"good"}


def test_what_a_server_lacks_is_named(site, server):
    server["deployments/filter"].pop(0)
    server["automations/filter"][1]["enabled"] = False
    found = by_check(doctor.check_server(site))
    assert found["deployments"].found == "missing: process-night"
    assert found["automations"].found == "missing or off: process-night-on-event"
    assert found["automations"].remedy == "gw-workflow deploy"


def test_deployments_that_nobody_serves_are_bad(site, server):
    for deployment in server["deployments/filter"]:
        deployment["status"] = "NOT_READY"
    found = by_check(doctor.check_server(site))["workers"]
    assert (found.verdict, found.remedy) == ("bad", "prefect worker start --pool gw-workflow")


def test_the_command_ends_with_3_if_a_night_cannot_run(site, night, capsys):
    code = main.run(["doctor", "--site", str(site.root), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["exit_code"]) == (3, 3)
    assert document["counts"]["bad"] >= 2

"""What the status says of runs that go on."""

import pytest

from blocks.site import Site
from deployments.checks import status
from deployments.checks.status import SiteStatus, running_flows, subject_status
from deployments.cli import nights
from imaging.identity import ExposureId
from tasks.engine.failures import note_failure
from tasks.engine.jobs import Failure
from tasks.jobs import StepJob


@pytest.fixture
def server(monkeypatch):
    answers = {"flow_runs/filter": [], "artifacts/filter": []}
    monkeypatch.setenv("PREFECT_API_URL", "http://server/api")
    monkeypatch.setattr(status, "ask_server", lambda url, what, question: answers[what])
    return answers


def test_a_run_says_how_far_it_is_and_what_it_waits_for(server, tmp_path):
    server["flow_runs/filter"] = [
        {"id": "a", "name": "process-night-20170818", "state_name": "Running"},
        {"id": "b", "name": "process-night-20170819", "state_name": "AwaitingConcurrencySlot"},
        {"id": "c", "name": "process-exposure-7", "state_name": "Late"},
    ]
    text = "Progress of night 20170818: 7: measure 3 of 60; about 4 min left"
    server["artifacts/filter"] = [{"flow_run_id": "a", "data": 41.7, "description": text}]
    runs = running_flows(Site.at(tmp_path))
    assert SiteStatus((), runs).lines()[1:] == [
        "Running: process-night-20170818 (42 %, 7: measure 3 of 60; about 4 min left)",
        "AwaitingConcurrencySlot: process-night-20170819 (waiting for another run to end)",
        "Late: process-exposure-7 (waiting for a worker)",
    ]


def test_a_full_disk_is_named_once(tmp_path):
    site = Site.at(tmp_path)
    for expnum in (7, 8):
        job = StepJob(exposure=ExposureId(expnum=expnum, band="i", night=20170818), ccd=3, site=site)
        note_failure("measure", job, Failure(reason="storage", message="the disk is full", kind="storage"))
    subjects = tuple(subject_status(site, name) for name in "789")
    lines = SiteStatus(subjects, None).lines()
    assert lines[-4:] == ["7 measure: storage 3", "8 measure: storage 3", "the disk is full", "no server is running"]


def test_a_server_that_is_away_is_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert running_flows(Site.at(tmp_path)) is None


def test_watching_ends_with_the_last_run(monkeypatch, capsys):
    slept: list[float] = []
    monkeypatch.setattr(nights.time, "sleep", slept.append)
    run = {"name": "process-night-20170818", "state": "Running"}
    looks = iter([SiteStatus((), (run,)), SiteStatus((), (run,)), SiteStatus((), ())])
    nights.watch_status(lambda: next(looks), 2.0)
    assert slept == [2.0, 2.0]
    assert "no exposure has been processed" in capsys.readouterr().out

"""The next server of a site shows the runs that had none, each once, with log and artifacts."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from blocks.lone_runs import LogLine, LoneRun, RunPage, ended_lone_runs, write_lone_run
from blocks.site import Site
from deployments.server.lone_runs import show_lone_runs
from deployments.server.server import ask_server, server_for

pytestmark = pytest.mark.server

BEGAN, ENDED = datetime(2026, 8, 17, 3, 0, 0, tzinfo=UTC), datetime(2026, 8, 17, 3, 0, 9, tzinfo=UTC)


def run_of(**changes) -> LoneRun:
    line = LogLine(logger="prefect.task_runs", level=20, time=BEGAN, text="1300001 CCD 27: measure: done in 5 s CPU")
    page = RunPage(kind="table", key="quality-1300001", content='[{"CCD": 27}]', description="Quality")
    known = LoneRun(
        run=uuid4(),
        flow="process-exposure",
        name="process-exposure-1300001",
        parameters={"ccds": [27]},
        host="elsewhere",
        began=BEGAN,
        ended=ENDED,
        state_type="COMPLETED",
        state_name="CompletedWithFailures",
        message="exposure 1300001: 1 of 1 done",
        log=[line] * 250,
        pages=[page],
    )
    return known.model_copy(update=changes)


def test_runs_are_shown_once_when_a_server_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    site = Site.at(tmp_path)
    failed = {"state_type": "FAILED", "state_name": "Failed", "message": "the disk is full", "log": [], "pages": []}
    runs = [run_of(), run_of(name="failed", **failed)]
    for run in runs:
        write_lone_run(site, run)
    write_lone_run(site, run_of(name="still running", ended=None))
    with server_for(site) as server:
        shown = {run["name"]: run for run in ask_server(server.api_url, "flow_runs/filter", {})}
        assert set(shown) == {"process-exposure-1300001", "failed"}
        done = shown["process-exposure-1300001"]
        assert (done["state_type"], done["state_name"]) == ("COMPLETED", "CompletedWithFailures")
        assert "1 of 1 done" in done["state"]["message"]
        assert "2026-08-17 03:00:00 UTC to 2026-08-17 03:00:09 UTC" in done["state"]["message"]
        assert (done["parameters"], done["tags"]) == ({"ccds": [27]}, ["without server"])
        assert shown["failed"]["state_type"] == "FAILED"
        of_it = {"logs": {"flow_run_id": {"any_": [done["id"]]}}, "limit": 200}
        pages = [ask_server(server.api_url, "logs/filter", {**of_it, "offset": first}) for first in (0, 200)]
        assert [len(page) for page in pages] == [200, 50]
        assert pages[0][0]["message"] == "1300001 CCD 27: measure: done in 5 s CPU"
        artifacts = ask_server(server.api_url, "artifacts/filter", {})
        assert [(found["key"], found["flow_run_id"]) for found in artifacts] == [("quality-1300001", done["id"])]
        assert ended_lone_runs(site) == []
        write_lone_run(site, runs[0])  # as if the command had died before it forgot the run
        assert show_lone_runs(site, server.api_url) == 1
        assert len(ask_server(server.api_url, "flow_runs/filter", {})) == 2


def test_runs_wait_for_a_server_that_answers(tmp_path):
    site = Site.at(tmp_path)
    (site.state / "server").mkdir(parents=True)
    write_lone_run(site, run_of())
    with pytest.raises(OSError, match="refused"):
        show_lone_runs(site, "http://127.0.0.1:9/api")
    assert len(ended_lone_runs(site)) == 1

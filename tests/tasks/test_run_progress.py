"""How far a run has come, as its page says it."""

from uuid import uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from tasks import run_progress
from tasks.progress import EFFORT, SEVERAL, Progress, listening, report
from tasks.run_progress import RunProgress, night_work, progress_on_page, stage_work


def test_a_night_that_has_done_everything_is_at_100_percent():
    progress = RunProgress(night_work(20170818, [1, 2, 3], [3]))
    for (subject, step), _ in night_work(20170818, [1, 2, 3], [3]).items():
        assert progress.percent < 100.0
        progress.note(Progress(step, subject, 60, 60))
    assert progress.percent == pytest.approx(100.0)


def test_effort_weighs_more_than_the_number_of_steps():
    progress = RunProgress(stage_work([1], ["single_epoch"]))
    progress.note(Progress("detrend", "1", 60, 60))
    progress.note(Progress("fit_sky", "1", 1, 1))
    assert progress.percent < 25.0, "two of four steps are done, but the longest is not"
    progress.note(Progress("measure", "1", 30, 60))
    assert 55.0 < progress.percent < 65.0


def test_what_is_not_of_this_run_does_not_count():
    progress = RunProgress(stage_work([1], ["calibration"]))
    progress.note(Progress("calibrate", "2", 60, 60))
    assert progress.percent == 0.0
    assert progress.sentence() == "begins"


def test_the_sentence_names_step_failures_and_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_progress.time, "monotonic", lambda: now[0])
    progress = RunProgress({("7", "measure"): 1.0})
    progress.note(Progress("measure", "7", 15, 60, failed=2))
    assert progress.sentence() == "7: measure 15 of 60; 2 failed so far"
    now[0] = 120.0
    assert progress.sentence() == "7: measure 15 of 60; 2 failed so far; about 6 min left"


def test_force_is_of_several_exposures():
    work = night_work(20170818, [1, 2], [1, 2])
    assert (SEVERAL, "force") in work
    assert work["night-20170818", "rank"] == pytest.approx(2 * EFFORT["candidates"]["rank"])


def test_who_listens_outside_goes_on_hearing():
    heard: list[str] = []
    with listening(lambda p: heard.append("outer")), listening(lambda p: heard.append("inner")):
        report(Progress("detrend", "1", 1, 2))
    assert heard == ["inner", "outer"]


def test_without_a_run_nothing_is_sent(monkeypatch):
    sent = []
    monkeypatch.setattr(run_progress, "show", lambda *args: sent.append(args))
    monkeypatch.setattr(run_progress, "PAUSE_S", 0.0)
    with progress_on_page("exposure 1", {("1", "detrend"): 1.0}):
        report(Progress("detrend", "1", 1, 1))
    assert not sent


def test_a_server_that_is_away_does_not_stop_the_work(monkeypatch):
    tried, done = [], []

    def away(*args):
        tried.append(args)
        raise httpx.ConnectError("no server")

    monkeypatch.setattr(run_progress, "show", away)
    monkeypatch.setattr(run_progress, "current_run", uuid4)
    monkeypatch.setattr(run_progress, "PAUSE_S", 0.0)
    with progress_on_page("exposure 1", {("1", "detrend"): 1.0}):
        report(Progress("detrend", "1", 1, 1))
        done.append("the step after the report")
    assert tried
    assert done


@flow
def child() -> None:
    for done in (1, 2, 3):
        report(Progress("detrend", "1", done, 4))


@flow
def parent() -> None:
    with progress_on_page("exposure 1", {("1", "detrend"): 1.0, ("1", "measure"): 1.0}):
        child()


@pytest.mark.server
def test_the_progress_is_on_the_page_of_the_outer_run(prefect_server, monkeypatch):
    sent: list[tuple[float, str]] = []
    renew = run_progress.renew
    monkeypatch.setattr(run_progress, "renew", lambda *args: (sent.append(args[1:]), renew(*args)))
    monkeypatch.setattr(run_progress, "PAUSE_S", 0.0)
    run = parent(return_state=True).state_details.flow_run_id
    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        (artifact,) = client.read_artifacts(artifact_filter=chosen)
    assert (artifact.type, artifact.key, artifact.data) == ("progress", "progress-exposure-1", 100.0)
    assert [percent for percent, _ in sent] == [25.0, 37.5, 100.0]

    sent.clear()
    monkeypatch.setattr(run_progress, "PAUSE_S", 60.0)
    parent()
    assert sent == [], "a short run sends its end only"

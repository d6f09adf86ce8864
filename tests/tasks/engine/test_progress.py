"""Progress of a run, as shown on its page."""

from uuid import uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from tasks.engine import progress as run_progress
from tasks.engine.progress import SEVERAL, Progress, RunProgress, progress_artifact, report
from tasks.engine.task_runner import ComputeTaskRunner, with_options
from tasks.night_plan import night_work
from tasks.steps import STEPS, stage_work


def test_a_completed_night_is_at_100_percent():
    progress = RunProgress(night_work(20170818, [1, 2, 3], [3]))
    for (subject, step), _ in night_work(20170818, [1, 2, 3], [3]).items():
        assert progress.percent < 100.0
        progress.note(Progress(step, subject, 60, 60))
    assert progress.percent == pytest.approx(100.0)


def test_steps_are_weighted_by_cost():
    progress = RunProgress(stage_work([1], ["single_epoch"]))
    progress.note(Progress("detrend", "1", 60, 60))
    progress.note(Progress("fit_sky", "1", 1, 1))
    assert progress.percent < 25.0, "two of four steps are done, but the longest is not"
    progress.note(Progress("measure", "1", 30, 60))
    assert 55.0 < progress.percent < 65.0


def test_steps_of_other_subjects_do_not_count():
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


def test_forced_photometry_is_of_several_exposures():
    work = night_work(20170818, [1, 2], [1, 2])
    assert (SEVERAL, "forced_photometry") in work
    assert work["night-20170818", "rank"] == pytest.approx(STEPS["rank"].cpu_s)


def test_without_a_run_nothing_is_sent(monkeypatch):
    sent = []
    monkeypatch.setattr(run_progress, "create_artifact", lambda *args: sent.append(args))
    monkeypatch.setattr(run_progress, "PAUSE_S", 0.0)
    with progress_artifact("exposure 1", {("1", "detrend"): 1.0}) as listener:
        report(Progress("detrend", "1", 1, 1))
    assert listener is None
    assert not sent


def test_an_unavailable_server_does_not_stop_the_run(monkeypatch):
    tried = []

    def away(*args):
        tried.append(args)
        raise httpx.ConnectError("no server")

    monkeypatch.setattr(run_progress, "create_artifact", away)
    monkeypatch.setattr(run_progress, "current_run", uuid4)
    monkeypatch.setattr(run_progress, "PAUSE_S", 0.0)
    with progress_artifact("exposure 1", {("1", "detrend"): 1.0}) as listener:
        listener(Progress("detrend", "1", 1, 1))
    assert len(tried) == 2, "the progress and the end"


@flow(task_runner=ComputeTaskRunner())
def child() -> None:
    for done in (1, 2, 3):
        report(Progress("detrend", "1", done, 4))


@flow(task_runner=ComputeTaskRunner())
def middle() -> None:
    child()


@flow(task_runner=ComputeTaskRunner())
def parent() -> None:
    with progress_artifact("exposure 1", {("1", "detrend"): 1.0, ("1", "measure"): 1.0}) as listener:
        with_options(middle, listener=listener)()


@pytest.mark.server
def test_the_progress_is_on_the_page_of_the_outer_run(prefect_server, monkeypatch):
    sent: list[tuple[float, str]] = []
    update = run_progress.update_artifact
    monkeypatch.setattr(run_progress, "update_artifact", lambda *args: (sent.append(args[1:]), update(*args)))
    monkeypatch.setattr(run_progress, "PAUSE_S", 0.0)
    heard: list[int] = []
    outer = with_options(parent, listener=lambda progress: heard.append(progress.done))
    run = outer(return_state=True).state_details.flow_run_id
    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        (artifact,) = client.read_artifacts(artifact_filter=chosen)
    assert (artifact.type, artifact.key, artifact.data) == ("progress", "progress-exposure-1", 100.0)
    assert [percent for percent, _ in sent] == [25.0, 37.5, 100.0]
    assert heard == [1, 2, 3], "a listener of the outer run hears the inner ones too"

    sent.clear()
    monkeypatch.setattr(run_progress, "PAUSE_S", 60.0)
    parent()
    assert sent == [], "a short run sends its end only"

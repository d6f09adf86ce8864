"""Which lost CCDs are retried alone, how often, and their messages."""

from types import SimpleNamespace

import pytest
from toy_steps import jobs_for

from blocks.site import Site
from tasks.engine import step as engine
from tasks.engine.jobs import Failure, Outcome, StepResult
from tasks.engine.outcomes import (
    LostTaskError,
    LostWorkerError,
    OutOfMemoryError,
    failure_of,
    is_worth_being_alone,
    why_lost,
)
from tasks.engine.running_scheduler import LostSchedulerError
from tasks.engine.step import _submit

NO_SERVER = LostTaskError.of(RuntimeError("Failed to reach API at http://127.0.0.1:4200/api/"))


class Script:
    """Stub of task and cluster with the error of each attempt of each CCD; None for success."""

    name = "toy"

    def __init__(self, monkeypatch, ends: dict[int, list[Exception | None]]) -> None:
        self.ends = ends
        self.tried: list[int] = []
        self.slept: list[float] = []
        monkeypatch.setattr(engine, "final_task_state", lambda job: job)
        monkeypatch.setattr(engine, "outcome_of", self.outcome_of)
        monkeypatch.setattr(engine.time, "sleep", self.slept.append)

    def submit(self, job):
        return job

    def outcome_of(self, job, state):
        self.tried.append(job.ccd)
        error = self.ends[job.ccd][self.tried.count(job.ccd) - 1]
        return Outcome(job, failure=failure_of(error, str(error))) if error else Outcome(job, result=StepResult())

    def run(self, site: Site) -> dict[int, Outcome]:
        jobs = jobs_for(site, sorted(self.ends))
        outcomes: dict[int, Outcome] = {}
        _submit(self, jobs, outcomes, outcomes.__setitem__)
        return {outcome.unit: outcome for outcome in outcomes.values()}


def test_a_ccd_is_retried_alone_until_the_server_is_back(monkeypatch, tmp_path):
    script = Script(monkeypatch, {1: [None], 2: [NO_SERVER, NO_SERVER, None], 3: [NO_SERVER, None]})
    outcomes = script.run(Site.at(tmp_path))
    assert all(outcome.result is not None for outcome in outcomes.values())
    assert script.tried == [1, 2, 3, 2, 3, 2]
    assert script.slept == list(engine.ALONE_DELAYS_S), "the second time more patiently"


def test_steps_that_lost_their_scheduler_are_submitted_together_not_alone(monkeypatch, tmp_path):
    lost = LostSchedulerError("lost")
    script = Script(monkeypatch, {1: [None], 2: [lost, lost, None], 3: [lost, None]})
    assert all(outcome.result is not None for outcome in script.run(Site.at(tmp_path)).values())
    assert script.tried == [1, 2, 3, 2, 3, 2]
    assert script.slept == []
    script = Script(monkeypatch, {1: [lost] * 99})
    outcome = script.run(Site.at(tmp_path))[1]
    assert (outcome.failure.reason, len(script.tried)) == ("lost_scheduler", 1 + engine.SCHEDULER_LOSSES + 1)


@pytest.mark.parametrize("status", ["cancelled", "finished", "pending", "lost"])
def test_a_result_that_the_dead_scheduler_kept_is_asked_for_again_on_the_cluster(status):
    """Dask calls a task finished whose result it could not yet send when the scheduler died."""
    assert isinstance(why_lost(SimpleNamespace(status=status)), LostSchedulerError)
    failed = SimpleNamespace(status="error", exception=lambda: RuntimeError("no worker"))
    assert isinstance(why_lost(failed), LostTaskError)


def test_a_ccd_that_also_kills_its_worker_alone_is_not_retried_without_end(monkeypatch, tmp_path):
    killed, hungry = LostWorkerError("killed"), OutOfMemoryError("out of memory at 9 GiB")
    script = Script(monkeypatch, {1: [killed] * 9, 2: [hungry] * 9, 3: [NO_SERVER] * 9, 4: [ValueError("defect")] * 9})
    outcomes = script.run(Site.at(tmp_path))
    assert [script.tried.count(ccd) for ccd in (1, 2, 3, 4)] == [2, 2, 3, 1]
    reasons = {ccd: outcome.failure.reason for ccd, outcome in outcomes.items()}
    assert reasons == {1: "lost_worker", 2: "out_of_memory", 3: "lost", 4: "ValueError"}
    assert "9 GiB (after a retry alone, with more memory)" in outcomes[2].failure.message
    assert "Failed to reach API" in outcomes[3].failure.message


@pytest.mark.parametrize("kind", ["ccd", "no_work", "input", "storage", "defect"])
def test_other_failures_are_not_retried_alone(kind, tmp_path):
    failure = Failure(reason="lost", message="", kind=kind)
    assert not is_worth_being_alone(Outcome(jobs_for(Site.at(tmp_path), [1])[0], failure=failure), 0)

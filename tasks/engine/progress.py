"""Progress of a run, passed to listeners and shown as a progress artifact of the run."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx

from tasks.engine.artifacts import create_artifact, update_artifact
from tasks.engine.lone_run import lone_listener
from tasks.engine.task_runner import ComputeTaskRunner, current_run


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of one step of one subject.

    Attributes
    ----------
    step
        Name of the step.
    subject
        Exposure number or night, as in file names; :data:`SEVERAL` if the jobs are of several subjects.
    done, total
        Number of jobs that have ended, and of all jobs.
    failed
        Number of ended jobs without a result.
    cached
        Number of ended jobs with a cached result.
    """

    step: str
    subject: str
    done: int
    total: int
    failed: int = 0
    cached: int = 0


SEVERAL = "several"
"""Subject of a step whose jobs have more than one subject."""

Listener = Callable[[Progress], None]


def report(progress: Progress) -> None:
    """Pass progress to the listeners of the current run."""
    runner, alone = ComputeTaskRunner.current(), lone_listener()
    for listener in runner.options.listeners if runner else filter(None, [alone]):
        listener(progress)


logger = logging.getLogger(__name__)

Work = Mapping[tuple[str, str], float]
"""(subject, step) to its cost, in any unit."""

PAUSE_S = 5.0
"""Minimum interval between updates of the artifact, seconds; limits the requests of runs with thousands of steps."""

FORETELL_S = 30.0
"""Elapsed seconds after which the remaining time is estimated."""


class RunProgress:
    """Progress of a run over all its steps, weighted by cost.

    Parameters
    ----------
    work
        Cost of each step of each subject; progress of other steps is ignored.
    """

    def __init__(self, work: Work) -> None:
        self._work = dict(work)
        self._total = sum(self._work.values())
        self._latest: dict[tuple[str, str], Progress] = {}
        self._began = time.monotonic()

    def note(self, progress: Progress) -> None:
        """Add the progress of a step."""
        key = (progress.subject, progress.step)
        if key in self._work:
            self._latest.pop(key, None)
            self._latest[key] = progress

    @property
    def percent(self) -> float:
        """Completed share of the cost, 0 to 100."""
        latest = tuple(self._latest.items())
        done = sum(self._work[key] * p.done / p.total for key, p in latest if p.total)
        return min(100.0 * done / self._total, 100.0) if self._total else 100.0

    @property
    def n_failed(self) -> int:
        """Number of jobs that have failed."""
        return sum(progress.failed for progress in tuple(self._latest.values()))

    def sentence(self) -> str:
        """Return the latest step, the number of failures and the estimated remaining time as one sentence."""
        latest = tuple(self._latest.values())
        if not latest:
            return "begins"
        last = latest[-1]
        parts = [f"{last.subject}: {last.step} {last.done} of {last.total}"]
        if self.n_failed:
            parts.append(f"{self.n_failed} failed so far")
        passed_s, percent = time.monotonic() - self._began, self.percent
        if passed_s > FORETELL_S and percent > 1.0:
            left_min = passed_s * (100.0 / percent - 1.0) / 60.0
            parts.append(f"about {left_min:.0f} min left" if left_min > 1.0 else "less than a minute left")
        return "; ".join(parts)


class _Page:
    """The progress artifact of a run, updated at most every :data:`PAUSE_S`; errors of the server are ignored."""

    def __init__(self, what: str, progress: RunProgress, run: UUID) -> None:
        self._what = what
        self._progress = progress
        self._run = run
        self._artifact: UUID | None = None
        self._sending = threading.Lock()
        self._sent = time.monotonic()

    def note(self, progress: Progress) -> None:
        self._progress.note(progress)
        if time.monotonic() - self._sent < PAUSE_S or not self._sending.acquire(blocking=False):
            return
        try:
            self._send(self._progress.percent, self._progress.sentence())
        finally:
            self._sending.release()

    def end(self) -> None:
        with self._sending:
            failed = self._progress.n_failed
            self._send(100.0, f"ended; {failed} failed" if failed else "ended")

    def _send(self, percent: float, sentence: str) -> None:
        """Create or update the artifact of the outer run, even if a subflow reports."""
        self._sent = time.monotonic()
        text = f"Progress of {self._what}: {sentence}"
        try:
            if self._artifact is None:
                key = re.sub(r"[^a-z0-9]+", "-", f"progress-{self._what.lower()}")
                self._artifact = create_artifact(self._run, "progress", key, round(percent, 1), text)
            else:
                update_artifact(self._artifact, round(percent, 1), text)
        except httpx.HTTPError as error:
            logger.debug("cannot update the progress artifact: %s", error)


@contextmanager
def progress_artifact(what: str, work: Work) -> Iterator[Listener | None]:
    """Show the progress inside the ``with`` block as an artifact of the current flow run, if there is one.

    A run shorter than :data:`PAUSE_S` sends one update, at its end.

    Parameters
    ----------
    what
        What is processed, such as ``exposure 1300001``.
    work
        Cost of each step of each subject.

    Yields
    ------
    listener
        Listener to pass to the flows; None outside of a flow run.
    """
    run = current_run()
    if run is None:
        yield None
        return
    page = _Page(what, RunProgress(work), run)
    yield page.note
    page.end()

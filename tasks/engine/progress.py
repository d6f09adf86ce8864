"""How far a run has come: passed to listeners, and shown as a progress artifact on the run's page."""

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
from tasks.engine.task_runner import ComputeTaskRunner, current_run


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one step of one subject has come.

    Attributes
    ----------
    step
        Name of the step.
    subject
        Exposure number or night, as in file names; :data:`SEVERAL` where the jobs are of several.
    done, total
        Jobs that have ended, and all of them.
    failed
        Those of the ended that have no result.
    cached
        Those of the ended that were known from an earlier run.
    """

    step: str
    subject: str
    done: int
    total: int
    failed: int = 0
    cached: int = 0


SEVERAL = "several"
"""The subject of a step whose jobs are of more than one."""

Listener = Callable[[Progress], None]


def report(progress: Progress) -> None:
    """Pass a progress to the listeners of the current run."""
    runner = ComputeTaskRunner.current()
    for listener in runner.options.listeners if runner else ():
        listener(progress)


logger = logging.getLogger(__name__)

Work = Mapping[tuple[str, str], float]
"""Subject and step to the effort that they cost, in any unit."""

PAUSE_S = 5.0
"""Seconds between two messages to the server, so that a run with thousands of steps sends few."""

FORETELL_S = 30.0
"""A run must have gone on for as long before it says how long it will take."""


class RunProgress:
    """How far the work of a run has come.

    Parameters
    ----------
    work
        What has to be done; a step of another subject counts nothing.
    """

    def __init__(self, work: Work) -> None:
        self._work = dict(work)
        self._total = sum(self._work.values())
        self._latest: dict[tuple[str, str], Progress] = {}
        self._began = time.monotonic()

    def note(self, progress: Progress) -> None:
        """Take note of a progress."""
        key = (progress.subject, progress.step)
        if key in self._work:
            self._latest.pop(key, None)
            self._latest[key] = progress

    @property
    def percent(self) -> float:
        """How much is done, 0 to 100."""
        latest = tuple(self._latest.items())
        done = sum(self._work[key] * p.done / p.total for key, p in latest if p.total)
        return min(100.0 * done / self._total, 100.0) if self._total else 100.0

    @property
    def n_failed(self) -> int:
        """Number of jobs that have failed."""
        return sum(progress.failed for progress in tuple(self._latest.values()))

    def sentence(self) -> str:
        """Say what goes on, what has failed and how long it will take."""
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
    """The progress as an artifact of the run, written seldom and never in the way of the work."""

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
        """Write the artifact; the run is named because a run that was called by it may report."""
        self._sent = time.monotonic()
        text = f"Progress of {self._what}: {sentence}"
        try:
            if self._artifact is None:
                key = re.sub(r"[^a-z0-9]+", "-", f"progress-{self._what.lower()}")
                self._artifact = create_artifact(self._run, "progress", key, round(percent, 1), text)
            else:
                update_artifact(self._artifact, round(percent, 1), text)
        except httpx.HTTPError as error:
            logger.debug("the server did not take the progress: %s", error)


@contextmanager
def progress_artifact(what: str, work: Work) -> Iterator[Listener | None]:
    """Show the progress of the work inside the ``with`` block on the page of the current run, if there is one.

    A run that is over sooner than :data:`PAUSE_S` sends one message, at its end.

    Parameters
    ----------
    what
        What is processed, in words: ``exposure 1300001``.
    work
        What has to be done.

    Yields
    ------
    listener
        To be given to the flows that do the work; None outside of a run.
    """
    run = current_run()
    if run is None:
        yield None
        return
    page = _Page(what, RunProgress(work), run)
    yield page.note
    page.end()

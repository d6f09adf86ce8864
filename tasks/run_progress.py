"""Show on the page of a run how far it has come: a bar, the step that goes on, what has failed, the time left."""

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import httpx

from tasks.progress import EFFORT, SEVERAL, Progress, listening
from tasks.run_page import current_run, renew, show

logger = logging.getLogger(__name__)

Work = Mapping[tuple[str, str], float]
"""Subject and step to the effort that they cost, in any unit."""

PAUSE_S = 5.0
"""Seconds between two messages to the server, so that a run with thousands of steps sends few."""

FORETELL_S = 30.0
"""A run must have gone on for as long before it says how long it will take."""


def stage_work(subjects: Iterable[object], stages: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return the work of some stages for each of some subjects.

    Parameters
    ----------
    subjects
        Exposure numbers or names of nights, as in file names.
    stages
        Names of stages, keys of :data:`~tasks.progress.EFFORT`.
    """
    steps = [item for stage in stages for item in EFFORT[stage].items()]
    return {(str(subject), step): effort for subject in subjects for step, effort in steps}


def night_work(night: int, exposures: Iterable[int], search: Iterable[int]) -> dict[tuple[str, str], float]:
    """Return the work of a night: all its exposures, the differences of the search exposures, the candidates.

    Parameters
    ----------
    night
        The night, YYYYMMDD.
    exposures, search
        Numbers of all exposures, and of those that are searched.
    """
    searched = tuple(search)
    work = stage_work(exposures, ("single_epoch", "calibration", "verification"))
    work |= stage_work(searched, ("difference",))
    efforts = {step: effort * len(searched) for step, effort in EFFORT["candidates"].items()}
    return work | {(SEVERAL if step == "force" else f"night-{night}", step): efforts[step] for step in efforts}


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

    def hear(self, progress: Progress) -> None:
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
        """Write the artifact; the run is named because who reports may be a run that was called by it."""
        self._sent = time.monotonic()
        text = f"Progress of {self._what}: {sentence}"
        try:
            if self._artifact is None:
                key = re.sub(r"[^a-z0-9]+", "-", f"progress-{self._what.lower()}")
                self._artifact = show(self._run, "progress", key, round(percent, 1), text)
            else:
                renew(self._artifact, round(percent, 1), text)
        except httpx.HTTPError as error:
            logger.debug("the server did not take the progress: %s", error)


@contextmanager
def progress_on_page(what: str, work: Work) -> Iterator[None]:
    """Show the progress of the work inside the ``with`` block on the page of the current run, if there is one.

    A run that is over sooner than :data:`PAUSE_S` sends one message, at its end.

    Parameters
    ----------
    what
        What is processed, in words: ``exposure 1300001``.
    work
        What has to be done.
    """
    run = current_run()
    if run is None:
        yield
        return
    page = _Page(what, RunProgress(work), run)
    with listening(page.hear):
        yield
    page.end()

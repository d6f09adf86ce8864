"""Tell whoever listens how far a run has come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


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


EFFORT: dict[str, dict[str, float]] = {
    "single_epoch": {"detrend": 0.9, "fit_sky": 0.01, "measure": 3.7, "tie": 0.1},
    "calibration": {"calibrate": 0.3, "solve": 0.01},
    "verification": {"inspect": 0.1, "verify": 0.2},
    "difference": {"choose_templates": 0.01, "difference": 7.4, "gather": 0.01},
    "candidates": {"associate": 0.1, "force": 0.1, "rank": 0.1},
}
"""Steps of every stage, in their order, with the CPU seconds that each takes per CCD."""

SEVERAL = "several"
"""The subject of a step whose jobs are of more than one."""

Listener = Callable[[Progress], None]

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` at every progress of the flows that run inside the ``with`` block, in this process.

    Who listens outside of the block goes on hearing.
    """
    outer = _listener.get()

    def both(progress: Progress) -> None:
        listener(progress)
        if outer is not None:
            outer(progress)

    token = _listener.set(both)
    try:
        yield
    finally:
        _listener.reset(token)


def report(progress: Progress) -> None:
    """Pass a progress on, if anybody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)

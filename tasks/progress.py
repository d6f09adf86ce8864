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
        Exposure number or night, as in file names.
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


Listener = Callable[[Progress], None]

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` at every progress of the flows that run inside the ``with`` block, in this process."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(progress: Progress) -> None:
    """Pass a progress on, if anybody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)

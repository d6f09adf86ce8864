"""Records of the runs of a registered night: what each run has seen, and how it ended.

A run of ``process-night`` or ``rank-night`` writes ``state/nights/{night}/runs/{run}.json`` when it starts and again
when it ends, and holds a lock beside it meanwhile. The operating system releases the lock when the process dies, so the
files alone distinguish a running run from a dead one, without a server.
"""

import fcntl
import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from blocks.nights import NightRecord, RegisteredNight
from imaging.io.locks import locked
from imaging.io.sealed import read_sealed, write_sealed

PROCESS, RANK = "process-night", "rank-night"
"""Flows whose runs are recorded."""

RUNS = "runs"
"""Subfolder of a night with the records."""

End = Literal["running", "completed", "failed", "cancelled", "crashed", "deferred"]
"""How a run ended; ``deferred``: it was stopped because its event was retracted and another night was waiting."""


class NightRun(BaseModel):
    """One run of a night."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    run: str
    """Identity of the flow run."""
    flow: Literal["process-night", "rank-night"]
    """Name of the flow."""
    registration: str
    """Registration of the night."""
    revision: int
    """Revision of the night that the run started with."""
    retracted: bool = False
    """Whether the event was retracted when the run started."""
    exposures: tuple[int, ...] = ()
    """Exposures whose raw files existed when the run started."""
    partial: tuple[int, ...] = ()
    """Those of them whose raw files were not whole, and had not changed for some time."""
    started: float
    """Unix time of the start, seconds."""
    host: str = ""
    """Name of the machine of its process."""
    end: End = "running"
    """How it ended; ``running`` also for a run whose process has died and whose end is not known yet."""


def run_of(record: NightRecord, flow: str, run: str, **about: object) -> NightRun:
    """Return the record of a run of a night's latest revision."""
    known = {
        "registration": record.registration,
        "revision": record.revision,
        "started": time.time(),
        "host": socket.gethostname(),
    }
    return NightRun.model_validate(known | {"run": run, "flow": flow} | about)


@contextmanager
def recorded_run(
    night: RegisteredNight,
    flow: str,
    run: str | None,
    *,
    exposures: Iterable[int] = (),
    partial: Iterable[int] = (),
    retracted: bool = False,
    at_end: bool = False,
) -> Iterator[None]:
    """Record a run of a night: its start, and at the end of the ``with`` block how it ended.

    A run that is interrupted from the keyboard counts as cancelled. One that is terminated or killed leaves the record
    of its start: the server knows whether a person has cancelled it.

    Parameters
    ----------
    night
        The night.
    flow
        :data:`PROCESS` or :data:`RANK`.
    run
        Identity of the flow run; None for a new one.
    exposures, partial
        Exposures whose raw files exist now, and those of them whose files are not whole.
    retracted
        Whether the event is retracted.
    at_end
        Record the run only when it has completed, because it may find that it has nothing to do and starts nothing.
    """
    found = {"exposures": sorted(exposures), "partial": sorted(partial)}
    known = run_of(night.record, flow, run or str(uuid4()), retracted=retracted, **found)
    if at_end:
        yield
        write_run(night, known, end="completed")
        return
    lock = _lock(night, known.run)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_run(night, known)
        try:
            yield
        except KeyboardInterrupt:
            write_run(night, known, end="cancelled")
            raise
        except Exception:
            write_run(night, known, end="failed")
            raise
        write_run(night, known, end="completed")
        lock.unlink(missing_ok=True)


def list_lock(night: RegisteredNight) -> AbstractContextManager[None]:
    """Let one run at a time write the ranked list of a night inside the ``with`` block.

    The night is read again inside of it, so that a list never replaces one of a newer revision.
    """
    return locked(night.folder / "list.lock")


def write_run(night: RegisteredNight, run: NightRun, *, end: End = "running") -> NightRun:
    """Write the record of a run with its end."""
    ended = run.model_copy(update={"end": end})
    write_sealed(night.folder / RUNS / f"{run.run}.json", ended.model_dump_json(indent=1) + "\n")
    return ended


def read_runs(night: RegisteredNight) -> tuple[NightRun, ...]:
    """Return the recorded runs of a night since its registration, in order of their start."""
    runs = [*_former_runs(night)]
    for path in (night.folder / RUNS).glob("*.json"):
        with suppress(OSError, ValueError):
            runs.append(NightRun.model_validate_json(read_sealed(path)))
    chosen = [run for run in runs if run.registration == night.record.registration]
    return tuple(sorted(chosen, key=lambda run: (run.started, run.run)))


def is_alive(night: RegisteredNight, run: NightRun) -> bool:
    """Whether the process of a run that has not ended is alive: it holds the lock."""
    if run.end != "running":
        return False
    try:
        with _lock(night, run.run).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _lock(night: RegisteredNight, run: str) -> Path:
    return night.folder / RUNS / f"{run}.lock"


def _former_runs(night: RegisteredNight) -> Iterator[NightRun]:
    """Yield the runs that versions before 0.3 marked: one per revision, with the exposures that it had found."""
    if night.record.registration:
        return
    for path in night.folder.glob("revision-*.started"):
        with suppress(OSError, ValueError):
            yield NightRun(
                run=path.stem,
                flow="process-night",
                registration="",
                revision=int(path.stem.removeprefix("revision-")),
                exposures=tuple(json.loads(path.read_text(encoding="utf-8") or "[]")),
                started=path.stat().st_mtime,
                end="completed",
            )

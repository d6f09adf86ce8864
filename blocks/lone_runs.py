"""Runs of flows without a server, kept in the site's state until a server shows them.

A command for one CCD starts no server (:mod:`tasks.engine.lone_run`). It writes ``state/lone-runs/RUN.json`` when it
starts and again when it ends, and holds the lock of its run meanwhile (:mod:`blocks.live_runs`). The next server of the
site shows the run on its pages, with its log and artifacts (:mod:`deployments.server.lone_runs`).
"""

import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from blocks.live_runs import forget_run, runs_of_this_machine
from blocks.site import Site
from imaging.io.sealed import read_sealed, write_sealed

FOLDER = "lone-runs"
"""Subfolder of the site's state."""

KEPT = 100
"""Largest number of runs that are kept for the next server; older ones are forgotten."""


class LogLine(BaseModel):
    """One line of the log of a run."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    logger: str
    """Name of the logger."""
    level: int
    """Level, as in :mod:`logging`."""
    time: datetime
    """When it was written."""
    text: str
    """The line."""


class RunPage(BaseModel):
    """One artifact of a run, as :func:`tasks.engine.artifacts.create_artifact` takes it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: str
    """Kind of the artifact."""
    key: str
    """Its key."""
    content: Any
    """Text, or the rows of a table as JSON."""
    description: str
    """Its description."""


class LoneRun(BaseModel):
    """A run of a flow without a server."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    run: UUID
    """Identity of the run."""
    flow: str
    """Name of the flow."""
    name: str
    """Name of the run."""
    parameters: dict[str, Any]
    """Parameters of the flow, JSON."""
    host: str
    """Machine of its process."""
    began: datetime
    """Start of the run."""
    ended: datetime | None = None
    """End of the run; None while it runs, and for ever if its process was killed."""
    state_type: str = "CRASHED"
    """Type of the final state."""
    state_name: str = "Crashed"
    """Name of the final state."""
    message: str = "its process has died; run it again, finished steps are kept"
    """Message of the final state."""
    log: list[LogLine] = []
    """Its log."""
    pages: list[RunPage] = []
    """Its artifacts."""


def write_lone_run(site: Site, run: LoneRun) -> None:
    """Write or replace the record of a run; forget the oldest ones if no server has shown them for long.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder = site.state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(folder / f"{run.run}.json", run.model_dump_json() + "\n")
    known = sorted(folder.glob("*.json"), key=_modified)
    for path in known[: max(len(known) - KEPT, 0)]:
        path.unlink(missing_ok=True)


def ended_lone_runs(site: Site) -> list[LoneRun]:
    """Return the runs that have ended, or whose process on this machine has died, in order of their start."""
    folder = site.state / FOLDER
    alive = {run for run, is_alive in runs_of_this_machine(site).items() if is_alive} if folder.is_dir() else set()
    found = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError):
            run = LoneRun.model_validate_json(read_sealed(path))
            if run.ended is not None or (run.host == socket.gethostname() and run.run not in alive):
                found.append(run)
    return sorted(found, key=lambda run: (run.began, run.run))


def forget_lone_run(site: Site, run: UUID) -> None:
    """Remove the record of a run that a server shows, and its lock if its process has died."""
    forget_run(site, run)
    (site.state / FOLDER / f"{run}.json").unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # shown by a server meanwhile
        return 0.0

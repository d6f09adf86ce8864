"""The one loop that decides about nights: compare the state on disk with what has run, and create the due runs.

:func:`look` may be called at any time, by any process, any number of times: the watcher calls it every two seconds,
``register-night`` and ``rank --announce`` after they have written. It reads the registered nights, the
alerts of their events, the raw files at hand, the records of the runs and the ranked lists. A run is created with an
idempotency key that follows from this state, so the server creates it once, whatever was interrupted or repeated.
Events are hints; nothing depends on their delivery.
"""

import fcntl
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

from blocks.gw_events import current_skymap, is_retracted, name_order
from blocks.imports import has_import
from blocks.night_runs import PROCESS, RANK, End, NightRun, is_alive, read_runs, run_of, write_run
from blocks.nights import RegisteredNight, read_night, registered_nights
from blocks.raw_index import RawFiles, has_raw_files, raw_files
from blocks.site import Site
from deployments.events.due import Due, NightState, RankedList, due, due_together, is_wanted
from imaging.errors import GWWorkflowError
from imaging.io.exposure_list import ListedExposure, read_exposure_list
from imaging.io.sealed import read_sealed
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest
from tasks.steps import RANK as RANK_STEP

EXPOSURE = "process-exposure"
"""Name of flow and deployment of a late exposure; those of a night are :data:`PROCESS` and :data:`RANK`."""

FINAL: dict[str, End] = {"COMPLETED": "completed", "FAILED": "failed", "CRASHED": "crashed", "CANCELLED": "cancelled"}
"""Type of a final state to the end that is recorded."""


@dataclass(frozen=True, slots=True)
class ServerRun:
    """A flow run on the server.

    Attributes
    ----------
    identity
        Its id.
    flow
        Name of the flow.
    name
        Name of the run.
    state
        Type of its state: SCHEDULED, PENDING, RUNNING, PAUSED, CANCELLING or a final one.
    night
        The night of its parameters; None if they name none.
    is_served
        Whether a deployment started it; otherwise a person did, in a process of their own.
    """

    identity: str
    flow: str
    name: str
    state: str
    night: int | None = None
    is_served: bool = True


class FlowRuns(Protocol):
    """Runs of a server. Every method raises an exception if the server does not answer."""

    def active(self) -> list[ServerRun]:
        """Return the runs of the site's nights that have not ended."""

    def find(self, identity: str) -> ServerRun | None:
        """Return a run; None if the server does not know it."""

    def create(self, flow: str, key: str, name: str, parameters: dict[str, Any]) -> ServerRun | str:
        """Create a run of a deployment; return the one with the same key if there is one, or why none is created."""

    def crash(self, identity: str, message: str) -> None:
        """Mark a run as crashed whose process is dead."""

    def cancel(self, identity: str, message: str) -> None:
        """Cancel a run."""


@dataclass(slots=True)
class Look:
    """What one look has found and created.

    Attributes
    ----------
    created
        Names of the runs that were created.
    n_expected
        Exposures of registered nights whose raw files are missing or incomplete.
    held
        Night to the reason why nothing more is created.
    errors
        Night to the error that prevented a decision about it.
    """

    created: list[str] = field(default_factory=list)
    n_expected: int = 0
    held: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


def look(site: Site, runs: FlowRuns) -> Look:
    """Create all runs that are due for the nights of a site.

    Parameters
    ----------
    site
        The site.
    runs
        Runs of its server.

    Returns
    -------
    found
        What was created, awaited and held. An error of one night does not affect the others.

    Raises
    ------
    Exception
        If the server does not answer; nothing is lost, the next look compares again.
    """
    found, files = Look(), cache(lambda: raw_files(site))
    with _only_one(site):
        active = runs.active()
        states: dict[int, tuple[RegisteredNight, NightState]] = {}
        for number in registered_nights(site):
            try:
                night = read_night(site, number)
                night = _with_newest_skymap(site, night)
                night = _with_unlisted(site, night, files)
                states[number] = night, read_state(site, night, runs, active)
            except GWWorkflowError as error:
                found.errors[number] = error.sentence()
        for number, decision in _in_order(states, runs):
            night, state = states[number]
            found.n_expected += decision.n_awaited
            reason = decision.held or (_create(night, state, decision, runs, found) if decision else "")
            if reason:
                found.held[number] = reason
    return found


def nights_to_do(site: Site) -> dict[int, Due]:
    """Return what is due for each night by the state on disk alone, without a server; complete nights are left out."""
    result = {}
    for number in registered_nights(site):
        try:
            decision = due(read_state(site, read_night(site, number)))
        except GWWorkflowError:
            continue
        if decision or decision.held:
            result[number] = decision
    return result


@contextmanager
def _only_one(site: Site) -> Iterator[None]:
    """Let one process decide at a time."""
    site.nights.mkdir(parents=True, exist_ok=True)
    with (site.nights / "decisions.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _with_newest_skymap(site: Site, night: RegisteredNight) -> RegisteredNight:
    """Store the sky map of a newer alert as a revision of the night."""
    newest = current_skymap(site, night.record.event)
    if newest is None or name_order(newest[0].name) <= name_order(night.record.alert):
        return night
    from blocks.skymaps import adopt_skymap

    return adopt_skymap(site, night.record.night, newest[1], alert=newest[0].name)


def _with_unlisted(site: Site, night: RegisteredNight, files: Callable[[], RawFiles]) -> RegisteredNight:
    """Take the exposures of a night that have arrived without being listed."""
    if night.record.selection is None or not has_raw_files(site):
        return night
    from deployments.events.unlisted import with_unlisted  # imports NumPy

    return with_unlisted(site, night, files())


def read_state(
    site: Site, night: RegisteredNight, runs: FlowRuns | None = None, active: Iterable[ServerRun] = ()
) -> NightState:
    """Read the state of a night.

    Parameters
    ----------
    site, night
        Site and night.
    runs
        Runs of the server, which tell how dead ones ended; None to take them as running.
    active
        Runs of the server that have not ended.
    """
    record = night.record
    recorded = tuple(_settled(night, run, runs) for run in read_runs(night))
    known = {run.run for run in recorded if run.end not in ("cancelled", "deferred")}  # these may still be ending
    covered, partial = ({n for run in recorded for n in getattr(run, name)} for name in ("exposures", "partial"))
    awaited = [item for item in _listed(night) if item.exposure.expnum not in covered]
    halves = [item for item in _listed(night) if item.exposure.expnum in partial]
    return NightState(
        record=record,
        runs=recorded,
        at_hand=frozenset(covered | _arrived(site, awaited)),
        completed=frozenset(_arrived(site, halves, whole=True)),
        followed=frozenset(night.arrived()),
        quiet_s=night.seconds_since_arrival(),
        ranked=read_ranked(site, record.night),
        retracted=is_retracted(site, record.event),
        waiting=frozenset(run.flow for run in active if run.night == record.night and run.identity not in known),
    )


def _arrived(site: Site, awaited: Iterable[ListedExposure], *, whole: bool = False) -> set[int]:
    """Return the exposures whose raw files are there, and nothing more is awaited of them, or all is there."""
    ids = [request_of(item).exposure_id() for item in awaited]
    if not any(has_import(site, who) for who in ids) and not (ids and has_raw_files(site)):
        return set()
    from tasks.raw_files import arrived_exposures  # imports astropy

    return arrived_exposures(site, ids, whole=whole)


def _settled(night: RegisteredNight, run: NightRun, runs: FlowRuns | None) -> NightRun:
    """Return a run with its end; for one whose process has died, record the end that the server knows."""
    if run.end != "running" or runs is None or is_alive(night, run):
        return run
    known = runs.find(run.run)
    again = next((other for other in read_runs(night) if other.run == run.run), run)
    if again.end != "running":  # it has ended in the meantime
        return again
    if known is not None and known.state == "RUNNING":
        if run.host != socket.gethostname():  # its lock may not be seen here
            return run
        runs.crash(run.run, "its process has died; finished steps are kept")
    state = "CANCELLED" if known is not None and known.state == "CANCELLING" else known.state if known else "CRASHED"
    return write_run(night, run, end=FINAL.get(state, "crashed"))


@lru_cache(maxsize=256)
def _read_list(path: Path, digest: str) -> tuple[ListedExposure, ...]:
    del digest  # part of the key: the files of a revision do not change
    return read_exposure_list(path)


def _listed(night: RegisteredNight) -> tuple[ListedExposure, ...]:
    return _read_list(night.exposure_list, night.record.exposure_list_hash)


def request_of(item: ListedExposure) -> ExposureRequest:
    """Return the request to process an exposure of a night's list."""
    exposure = item.exposure
    return ExposureRequest(expnum=exposure.expnum, band=exposure.band, night=exposure.night)


def read_ranked(site: Site, night: int) -> RankedList | None:
    """Return what the ranked list of a night was made with; None if there is none."""
    path = StepJob(night=night, site=site).product_path(RANK_STEP.products["ranking"])
    try:
        content = json.loads(read_sealed(path))
        return RankedList(content["skymap"]["content_hash"], bool(content["parameters"].get("retracted", False)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _in_order(states: dict[int, tuple[RegisteredNight, NightState]], runs: FlowRuns) -> list[tuple[int, Due]]:
    """Return what is due for each night; the nights of retracted events give way to the others.

    Runs that a person has started outside of the deployments are left alone.
    """
    decisions = due_together({number: state for number, (_, state) in states.items()})
    if any(is_wanted(state) for _, state in states.values()):
        for night, state in states.values():
            for run in state.runs_of(PROCESS) if state.retracted else ():
                known = runs.find(run.run) if run.end == "running" else None
                if known is not None and known.is_served:
                    write_run(night, run, end="deferred")
                    runs.cancel(run.run, "the event was retracted and another night is waiting; continues after it")
    return list(decisions.items())


def _create(night: RegisteredNight, state: NightState, decision: Due, runs: FlowRuns, found: Look) -> str:
    """Create the runs that are due for a night; return why one was not created."""
    record, reason = night.record, ""
    prefix = f"gw-{record.night}-{record.registration or 'former'}"
    by_number = {item.exposure.expnum: item for item in _listed(night)}
    for expnum in sorted(decision.exposures):
        request = request_of(by_number[expnum]).model_dump(mode="json")
        run = runs.create(EXPOSURE, f"{prefix}-{EXPOSURE}-{expnum}", f"{EXPOSURE}-{expnum}", {"exposure": request})
        if isinstance(run, str):
            reason = run  # the night itself does not need a run of each late exposure
            break
        night.mark_arrived(expnum, run.identity)
        found.created.append(run.name)
    for flow, is_due in ((PROCESS, decision.process), (RANK, decision.rank)):
        if not is_due:
            continue
        key = f"{prefix}-{flow}-{len(state.runs_of(flow)) + 1}"
        run = runs.create(flow, key, f"{flow}-{record.night}-r{record.revision}", {"night": record.night})
        if isinstance(run, str):
            return run
        if run.state in FINAL:  # it ended before it could write its record
            ended = run_of(record, flow, run.identity, retracted=state.retracted, started=time.time())
            ended = write_run(night, ended, end=FINAL[run.state])
            return due(replace(state, runs=(*state.runs, ended))).held
        found.created.append(run.name)
    return reason

"""Close dead runs that the server's automation does not find, and open live ones again that it has closed.

The automation waits for the next heartbeat of a run, and forgets that it waits when the server ends: after a power cut
a run would stay ``Running`` for ever. A flow that was called by another flow sends no heartbeats of its own; it would
stay ``Running`` after its caller was marked as crashed. A run that was being started would stay ``Pending`` and keep
its slot, one that was being cancelled ``Cancelling``. A run whose process was stopped for a while would be ``Crashed``
although it goes on.

The lock of a run of this machine tells at once whether its process is alive (:mod:`blocks.live_runs`). Of other runs
only the heartbeats are known.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed, Running, Scheduled

from blocks.live_runs import forget_run, runs_of_this_machine
from blocks.site import Site
from deployments.server.automations import SIGN_OF_LIFE
from deployments.server.server import ask_server
from deployments.server.server_settings import HEARTBEAT_S

SILENCE_S = 2.5 * HEARTBEAT_S
"""A run without heartbeat for this long, while the server answered, is dead."""

UNCHANGED_S = 60.0
"""A run that is ``Pending`` or ``Cancelling`` for this long has no process that starts or ends it."""

LOOKED_AT = 200
"""Number of runs examined at a time, the most that the server returns at once."""


class DeadRuns:
    """Finds dead runs on the server that Prefect's settings name.

    A run of this machine is dead if nobody holds its lock. Another one is dead if it sent no heartbeat for
    :data:`SILENCE_S` while the server answered at every look; a server that was away may have missed heartbeats. A run
    that never sent a heartbeat is ignored.

    Parameters
    ----------
    site
        The site, whose state has the locks of its runs.
    clock
        Returns the seconds of a monotonic clock.
    owns_all
        Whether this process starts and cancels all runs of the server's deployments: then one that was ``Pending`` or
        ``Cancelling`` before it began is dead.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic, *, owns_all: bool = False) -> None:
        self._site = site
        self._clock = clock
        self._began = datetime.now(UTC) if owns_all else datetime.min.replace(tzinfo=UTC)
        self._watched: dict[UUID, tuple[float, datetime]] = {}
        self._unchanged: dict[UUID, float] = {}
        self.has_suspects = False

    def look(self) -> list[str]:
        """Close dead runs: started ones as crashed, those being cancelled as cancelled; return their names.

        Those being started are scheduled again.

        Afterwards ``has_suspects`` is True if another run was silent, but not yet for long enough.

        Raises
        ------
        httpx.HTTPError, OSError
            If the server does not answer; then the time without heartbeats starts anew.
        """
        try:
            with get_client(sync_client=True) as client:
                now = self._clock()
                alive, closed = self._compare_locks(client)
                closed += self._close_silent(client, now, alive) + self._close_unchanged(client, now)
                return closed + close_orphans(client)
        except (httpx.HTTPError, OSError):
            self._watched.clear()
            self._unchanged.clear()
            raise

    def _compare_locks(self, client: SyncPrefectClient) -> tuple[set[UUID], list[str]]:
        """Compare the runs of this machine with the server; return the live ones, and the names of those closed."""
        alive, closed = set(), []
        for identity, is_alive in runs_of_this_machine(self._site).items():
            try:
                run = client.read_flow_run(identity)
            except ObjectNotFound:  # a run of another server
                continue
            if is_alive:
                alive.add(identity)
                if run.state_type == StateType.CRASHED:
                    client.set_flow_run_state(identity, Running(message="its process goes on"), force=True)
                continue
            if run.state_type == StateType.RUNNING:
                message = "its process has died; run it again, finished steps are kept"
                client.set_flow_run_state(identity, Crashed(message=message), force=True)
                closed.append(run.name)
            forget_run(self._site, identity)
        return alive, closed

    def _close_unchanged(self, client: SyncPrefectClient, now: float) -> list[str]:
        """Schedule runs again whose start was interrupted, and end those whose cancelling was."""
        names = []
        runs = [run for run in flows_in(client, StateType.PENDING, StateType.CANCELLING) if run.state is not None]
        states = {run.state.id: run for run in runs if run.state is not None}
        self._unchanged = {identity: self._unchanged.get(identity, now) for identity in states}
        for identity, run in states.items():
            since = run.state.timestamp if run.state is not None else self._began
            if since >= self._began and now - self._unchanged[identity] < UNCHANGED_S:
                continue
            if run.state_type == StateType.CANCELLING:
                state: State[Any] = Cancelled(message="the process that was to end it has died")
            elif run.deployment_id is None:
                state = Crashed(message="its process died before it started")
            else:
                state = Scheduled(message="its start was interrupted")
            client.set_flow_run_state(run.id, state, force=True)
            names.append(run.name)
        return names

    def _close_silent(self, client: SyncPrefectClient, now: float, alive: set[UUID]) -> list[str]:
        moment = datetime.now(UTC)
        runs = {run.id: run for run in running_flows(client) if not run.parent_task_run_id and run.id not in alive}
        self._watched = {identity: self._watched.get(identity, (now, moment)) for identity in runs}
        self.has_suspects = False
        names = []
        for identity, run in runs.items():
            since, when = self._watched[identity]
            if heartbeats(identity, when):
                self._watched[identity] = (now, moment)
            elif is_silent(run, moment):
                if now - since >= SILENCE_S:
                    message = f"no heartbeat for {SILENCE_S:g} s; run it again, finished steps are kept"
                    client.set_flow_run_state(identity, Crashed(message=message), force=True)
                    names.append(run.name)
                else:
                    self.has_suspects = True
        return names


def close_orphans(client: SyncPrefectClient) -> list[str]:
    """Mark runs as crashed whose calling run has ended; return their names."""
    names = []
    while orphans := find_orphans(client):
        for run in orphans:
            message = "the calling run has ended; finished steps are kept"
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            names.append(run.name)
    return names


def find_orphans(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the running runs whose calling run has ended."""
    running = running_flows(client)
    called = {run.parent_task_run_id: run for run in running if run.parent_task_run_id}
    if not called:
        return []
    callers = client.read_task_runs(task_run_filter=TaskRunFilter(id=TaskRunFilterId(any_=list(called))))
    caller_of = {task_run.id: task_run.flow_run_id for task_run in callers}
    known = {run.id for run in running}
    over = {run for run in caller_of.values() if run is not None and run not in known and _is_over(client, run)}
    return [run for task_run, run in called.items() if caller_of.get(task_run) in over]


def _is_over(client: SyncPrefectClient, run: UUID) -> bool:
    state: State[Any] | None = client.read_flow_run(run).state
    return state is not None and state.is_final()


def running_flows(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the running flow runs."""
    return flows_in(client, StateType.RUNNING)


def flows_in(client: SyncPrefectClient, *types: StateType) -> list[FlowRun]:
    """Return the flow runs whose states have one of these types."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), limit=LOOKED_AT)


def is_silent(run: FlowRun, moment: datetime) -> bool:
    """Whether a run that sends heartbeats had sent none for ``SILENCE_S`` at a moment."""
    began, lately = run.start_time or moment, moment - timedelta(seconds=SILENCE_S)
    return began < lately and not heartbeats(run.id, lately) and heartbeats(run.id, began)


def heartbeats(run: UUID, since: datetime) -> bool:
    """Whether the server has received a heartbeat of a run since a moment."""
    chosen = {
        "event": {"name": [SIGN_OF_LIFE]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
        "occurred": {"since": since.isoformat(), "until": datetime.now(UTC).isoformat()},
    }
    found = ask_server(str(PREFECT_API_URL.value()), "events/filter", {"filter": chosen, "limit": 1})
    return bool(found["events"])

"""Close the runs that nobody works on any more and that the server does not find by itself.

The server's automation waits for the next heartbeat of a run, and forgets that it waits when it is ended itself: after
a cut of the power, a run would say ``Running`` for ever. And a flow that was called by another one sends no heartbeats
of its own, so that it would go on for ever where its caller was closed.
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
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

from deployments.server.automations import SIGN_OF_LIFE
from deployments.server.server import ask_server
from deployments.server.server_settings import HEARTBEAT_S

SILENCE_S = 2.5 * HEARTBEAT_S
"""A run whose heartbeat has not come for as long, while the server answered, is dead."""

LOOKED_AT = 200
"""Runs that one look takes up, the most that the server gives at once; the others are for the next."""


class DeadRuns:
    """Looks for dead runs on the server that Prefect's settings name, again and again.

    A run is closed when no heartbeat of it has come for :data:`SILENCE_S` during which the server was looked at and
    answered: one that was away, and has missed heartbeats, closes nothing. A run that never sent any is left alone.

    Parameters
    ----------
    clock
        Returns the seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: dict[UUID, tuple[float, datetime]] = {}
        self.has_suspects = False

    def look(self) -> list[str]:
        """Close what is dead; return the names of these runs.

        ``has_suspects`` says afterwards whether a run was silent that is not closed yet.

        Raises
        ------
        httpx.HTTPError, OSError
            If the server does not answer; then the time of silence is counted anew.
        """
        try:
            with get_client(sync_client=True) as client:
                return self._close_silent(client) + close_orphans(client)
        except (httpx.HTTPError, OSError):
            self._watched.clear()
            raise

    def _close_silent(self, client: SyncPrefectClient) -> list[str]:
        now, moment = self._clock(), datetime.now(UTC)
        runs = {run.id: run for run in running_flows(client) if not run.parent_task_run_id}
        self._watched = {identity: self._watched.get(identity, (now, moment)) for identity in runs}
        self.has_suspects = False
        names = []
        for identity, run in runs.items():
            since, when = self._watched[identity]
            if heartbeats(identity, when):
                self._watched[identity] = (now, moment)
            elif is_silent(run, moment):
                if now - since >= SILENCE_S:
                    message = f"no sign of life for {SILENCE_S:g} s; run it again, what is finished is kept"
                    client.set_flow_run_state(identity, Crashed(message=message), force=True)
                    names.append(run.name)
                else:
                    self.has_suspects = True
        return names


def close_orphans(client: SyncPrefectClient) -> list[str]:
    """Mark as crashed what was called by a run that is over; return the names of these runs."""
    names = []
    while orphans := find_orphans(client):
        for run in orphans:
            message = "the run that called it has ended; what is finished is kept"
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            names.append(run.name)
    return names


def find_orphans(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the runs that go on although the run that called them is over."""
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
    """Return the flow runs that go on."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), limit=LOOKED_AT)


def is_silent(run: FlowRun, moment: datetime) -> bool:
    """Whether a run that sends heartbeats had not sent one for a while at a moment."""
    began, lately = run.start_time or moment, moment - timedelta(seconds=SILENCE_S)
    return began < lately and not heartbeats(run.id, lately) and heartbeats(run.id, began)


def heartbeats(run: UUID, since: datetime) -> bool:
    """Whether the server has heard a heartbeat of a run since a moment."""
    chosen = {
        "event": {"name": [SIGN_OF_LIFE]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
        "occurred": {"since": since.isoformat(), "until": datetime.now(UTC).isoformat()},
    }
    found = ask_server(str(PREFECT_API_URL.value()), "events/filter", {"filter": chosen, "limit": 1})
    return bool(found["events"])

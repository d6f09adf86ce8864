"""Runs of the server that Prefect's settings name, as :mod:`deployments.events.decisions` uses them."""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed, Scheduled

from blocks.night_runs import PROCESS, RANK
from blocks.site import Site
from deployments.events.decisions import EXPOSURE, ServerRun

WAITS = "AwaitingConcurrencySlot"
"""Name of the state of a run that waits for another run of its deployment."""

AGAIN_S = 20.0
"""Minimum time between two attempts to start a waiting run, seconds."""

MOST = 200
"""Number of runs that the server returns at once."""

ACTIVE = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING)
HOLDING = ("PENDING", "RUNNING", "CANCELLING")
"""Types of the states that hold a slot of the deployment."""


class ServerRuns:
    """Runs of a site's nights on the server; a context manager that keeps one connection.

    Parameters
    ----------
    site
        The site.
    name
        Name or folder of the site, the parameter ``site`` of its runs.
    """

    def __init__(self, site: Site, name: str) -> None:
        self._name, self._sites = name, {name, str(site.root)}
        self._names: dict[UUID, str] = {}
        self._started: dict[UUID, float] = {}

    def __enter__(self) -> Self:
        """Connect to the server."""
        self._context = get_client(sync_client=True)
        self._client: SyncPrefectClient = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._context.__exit__(kind, error, trace)

    def active(self) -> list[ServerRun]:
        """Return the runs of the site's nights that have not ended; start those whose slot has become free."""
        found = self._client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[PROCESS, RANK, EXPOSURE])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ACTIVE)))),
            limit=MOST,
        )
        self._start_waiting(found)
        return [self._described(run) for run in found if run.parameters.get("site", self._name) in self._sites]

    def find(self, identity: str) -> ServerRun | None:
        """Return a run; None if the server does not know it."""
        try:
            return self._described(self._client.read_flow_run(UUID(identity)))
        except (ObjectNotFound, ValueError):
            return None

    def create(self, flow: str, key: str, name: str, parameters: dict[str, Any]) -> ServerRun | str:
        """Create a run of a deployment, or return the one with the same key; a sentence if none is to be created."""
        try:
            deployment = self._client.read_deployment_by_name(f"{flow}/{flow}")
        except ObjectNotFound:
            return f"the server has no deployment {flow}; run gw-workflow serve or deploy"
        if deployment.paused:
            return f"the deployment {flow} is paused; resume it on the pages"
        run = self._client.create_flow_run_from_deployment(
            deployment.id, parameters=parameters | {"site": self._name}, name=name, idempotency_key=key
        )
        return self._described(run)

    def crash(self, identity: str, message: str) -> None:
        """Mark a run as crashed whose process is dead."""
        self._client.set_flow_run_state(UUID(identity), Crashed(message=message), force=True)

    def cancel(self, identity: str, message: str) -> None:
        """Cancel a run; the process that serves it ends its processes."""
        self._client.set_flow_run_state(UUID(identity), Cancelling(message=message))

    def _described(self, run: FlowRun) -> ServerRun:
        if run.flow_id not in self._names:
            self._names[run.flow_id] = self._client.read_flow(run.flow_id).name
        state = "SCHEDULED" if run.state_type is None else run.state_type.value
        night, is_served = night_of(run.parameters), run.deployment_id is not None
        return ServerRun(str(run.id), self._names[run.flow_id], run.name, state, night, is_served)

    def _start_waiting(self, runs: Iterable[FlowRun]) -> None:
        """Schedule waiting runs at once where a slot is free; the server would try again only after a minute."""
        of_deployment: dict[UUID, list[FlowRun]] = {}
        for run in runs:
            if run.deployment_id is not None:
                of_deployment.setdefault(run.deployment_id, []).append(run)
        for identity, those in of_deployment.items():
            waiting = [run for run in those if run.state_name == WAITS and self._may_start(run)]
            if not waiting:
                continue
            n_holding = sum(run.state_type is not None and run.state_type.value in HOLDING for run in those)
            free = _slots(self._client.read_deployment(identity)) - n_holding
            for run in sorted(waiting, key=lambda run: run.expected_start_time or datetime.now(UTC))[: max(free, 0)]:
                self._started[run.id] = time.monotonic()
                self._client.set_flow_run_state(run.id, Scheduled(message="a slot is free"), force=True)

    def _may_start(self, run: FlowRun) -> bool:
        return time.monotonic() - self._started.get(run.id, -AGAIN_S) >= AGAIN_S


def _slots(deployment: DeploymentResponse) -> int:
    limit = deployment.global_concurrency_limit
    return MOST if limit is None else limit.limit


def night_of(parameters: Mapping[str, Any]) -> int | None:
    """Return the night that the parameters of a run name; None if they name none."""
    event, exposure = parameters.get("event"), parameters.get("exposure")
    given = parameters.get("night")
    if given is None and isinstance(event, Mapping):
        given = event.get("night")
    if given is None and isinstance(exposure, Mapping):
        given = exposure.get("night")
    return given if isinstance(given, int) else None

"""The task runner of the flows: worker processes on this machine, or a cluster that the site names.

The runner is lazy: as long as nothing is submitted, no cluster is started. A flow that is called by another flow shares
the cluster of its parent, whatever thread it runs in, so that there is one cluster per run and ending the run ends its
work. It takes over the parent's options, unless :func:`with_options` gives it others.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import distributed
from prefect import Flow
from prefect.client.schemas.objects import RunInput
from prefect.context import FlowRunContext, serialize_context
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.task_engine import run_task_sync
from prefect.tasks import Task
from prefect.utilities.engine import collect_task_run_inputs_sync
from prefect_dask import DaskTaskRunner
from prefect_dask.client import PrefectDaskClient
from prefect_dask.task_runners import PrefectDaskFuture

from blocks.cluster import ComputeCluster
from tasks.engine.cluster import Cluster


def _is_child_run() -> bool:
    """Whether the current flow run was called by another one, which then gives the signs of life for both.

    A flow that gives them itself takes up to a second to end: most of the time of a run that has nothing to do.
    """
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.parent_task_run_id)


NOBODY_WAITS = -1_000_000
"""Priority of what is done before anybody waits for it."""

AHEAD = 1_000
"""By how much a step that all jobs of a subject wait for goes before mapped jobs, those of more urgent
subjects too: it is short, and without it workers would be idle as soon as the urgent ones come to their end."""

AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a flow run is told by the run that called it.

    Attributes
    ----------
    priority
        Priority of its tasks; those of higher priority go first where tasks of several flows wait for a worker.
    page_run
        Run on whose page its artifacts are shown; None for its own. A called flow has a page of its own, where nobody
        looks for the result of the whole.
    listeners
        Functions that are called with every :class:`tasks.engine.progress.Progress`.
    """

    priority: int = 0
    page_run: UUID | None = None
    listeners: tuple[Callable[[Any], None], ...] = ()


def current_run() -> UUID | None:
    """Return the identity of the current flow run; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def page_run() -> UUID | None:
    """Return the run on whose page artifacts are shown now; None where there is no run."""
    runner = ComputeTaskRunner.current()
    return (runner.options.page_run if runner else None) or current_run()


def with_options(
    flow: AnyFlow,
    *,
    cluster: ComputeCluster | None = None,
    priority: int | None = None,
    page_run: UUID | None = None,
    listener: Callable[[Any], None] | None = None,
) -> AnyFlow:
    """Return a flow to be called with other options than those of the current run, whose cluster it shares.

    Parameters
    ----------
    flow
        The flow.
    cluster
        Cluster to use where there is no current run; None to look it up.
    priority, page_run
        As in :class:`RunOptions`; None for those of the current run.
    listener
        Function to be called with every progress, besides those that are called already.
    """
    runner = ComputeTaskRunner.current()
    options = runner.options if runner else RunOptions()
    changes: dict[str, Any] = {"priority": priority, "page_run": page_run}
    changes = {name: value for name, value in changes.items() if value is not None}
    if listener is not None:
        changes["listeners"] = (*options.listeners, listener)
    called = copy(flow)
    called.task_runner = ComputeTaskRunner(cluster, options=replace(options, **changes))
    return called


class ComputeTaskRunner(DaskTaskRunner):
    """Runs tasks on the cluster of the run.

    Parameters
    ----------
    configuration
        The cluster; None to look it up when it is first needed. A run that is called by another one shares the other's.
    options
        Options of the run; None for those of the run that calls it.
    """

    def __init__(self, configuration: ComputeCluster | None = None, *, options: RunOptions | None = None) -> None:
        self._configuration = configuration
        self._given = options
        self._shared: Cluster | None = None
        self._is_owner = False
        self._is_ahead = False
        self._serialized: dict[str, Any] | None = None
        self.options = options or RunOptions()
        super().__init__()

    def __reduce__(self) -> tuple[type[Self], tuple[ComputeCluster | None]]:
        """Travel to a worker, within its flow, without what lives in this process."""
        return type(self), (self._configuration,)

    def __eq__(self, other: object) -> bool:
        """Whether another runner has the same configuration."""
        return isinstance(other, ComputeTaskRunner) and self._configuration == other._configuration

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def current(cls) -> Self | None:
        """Return the task runner of the current flow run if it is of this class."""
        context = FlowRunContext.get()
        runner = context.task_runner if context else None
        return runner if isinstance(runner, cls) else None

    def duplicate(self) -> Self:
        """Return a runner with the same configuration, not started."""
        return type(self)(self._configuration, options=self._given)

    def __enter__(self) -> Self:
        """Join the parent flow's cluster, or get ready to start one."""
        super().__enter__()
        parent = self.current()
        if parent is not None:
            self._shared = parent._run_cluster()
            self.options = self._given or parent.options
        else:
            self._shared = Cluster(self._configuration)
            self._is_owner = True
        if _is_child_run():
            quiet = temporary_settings(restore_defaults={PREFECT_FLOWS_HEARTBEAT_FREQUENCY})
            self._exit_stack.enter_context(quiet)
        return self

    def __exit__(self, *args: Any) -> None:  # noqa: ANN401
        """End the cluster if this runner's flow is the one that made it."""
        try:
            if self._is_owner and self._shared is not None:
                self._shared.close()
        finally:
            self._shared = None
            super().__exit__(*args)

    @property
    def client(self) -> PrefectDaskClient:
        """The client of the run's cluster, which is started here if nobody has needed it yet."""
        return self._run_cluster().client()

    def _run_cluster(self) -> Cluster:
        if self._shared is None:
            raise RuntimeError("the task runner must be started before work is submitted")
        return self._shared

    @contextmanager
    def together(self, *, ahead: bool = False) -> Iterator[None]:
        """Work on the run's cluster with the flows that share it inside the ``with`` block.

        Parameters
        ----------
        ahead
            Whether what is submitted goes before all mapped jobs.
        """
        with self._run_cluster().turns.together():
            self._is_ahead = ahead
            try:
                yield
            finally:
                self._is_ahead = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work alone, on one worker with more memory, inside the ``with`` block: other flows of the run wait."""
        shared = self._run_cluster()
        with shared.with_more_memory() as roomy:
            self._shared = roomy
            try:
                yield
            finally:
                self._shared = shared

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> PrefectDaskFuture[Any]:
        """Submit a task, with the priority of its run.

        This does what the parent class does, at a third of its cost.
        """
        if not self._started:
            raise RuntimeError("the task runner must be started before work is submitted")
        client = self.client
        task_run_id = uuid4()
        inputs = {name: collect_task_run_inputs_sync(value, distributed.Future) for name, value in parameters.items()}
        future = client.submit(
            run_task_sync,
            key=f"{task.name}-{task_run_id.hex}",
            priority=self.options.priority + (AHEAD if self._is_ahead else 0),
            task=task,
            task_run_id=task_run_id,
            parameters=self._optimize_futures(parameters),
            wait_for=self._optimize_futures(wait_for) if wait_for else None,
            dependencies={name: found | (dependencies or {}).get(name, set()) for name, found in inputs.items()},
            context=self._context(),
            return_type="state",
        )
        return PrefectDaskFuture[Any](wrapped_future=future, task_run_id=task_run_id)

    def _context(self) -> dict[str, Any]:
        """Return the context of the flow run for the workers.

        It is the same for all tasks of a run, and making it costs more than everything else of a submission, most of it
        for Prefect's settings; so it is made once, and without the settings where the workers have them.
        """
        if self._serialized is None:
            self._serialized = serialize_context()
            if self._shared is not None and self._shared.knows_settings:
                self._serialized["settings_context"] = {}
        return self._serialized

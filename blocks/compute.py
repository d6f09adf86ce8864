"""The task runner of the flows: worker processes on this machine, or a cluster that the site names.

The runner is lazy: as long as nothing is submitted, no cluster is started. A flow that is called by another flow shares
the cluster of its parent, whatever thread it runs in, so that there is one cluster per run and ending the run ends its
work.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self
from uuid import uuid4

import distributed
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
from blocks.started_cluster import Cluster


def _is_child_run() -> bool:
    """Whether the current flow run was called by another one, which then gives the signs of life for both.

    A flow that gives them itself takes up to a second to end: most of the time of a run that has nothing to do.
    """
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.parent_task_run_id)


_cluster: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextmanager
def using_cluster(configuration: ComputeCluster) -> Iterator[None]:
    """Let every flow that is called inside the ``with`` block share one cluster of this configuration."""
    cluster = Cluster(configuration)
    token = _cluster.set(cluster)
    try:
        yield
    finally:
        _cluster.reset(token)
        cluster.close()


_priority: ContextVar[int] = ContextVar("priority", default=0)

NOBODY_WAITS = -1_000_000
"""Priority of what is done before anybody waits for it."""


@contextmanager
def prioritised(priority: int) -> Iterator[None]:
    """Let the tasks of the flows inside the ``with`` block go before those of less priority that wait for a worker."""
    token = _priority.set(priority)
    try:
        yield
    finally:
        _priority.reset(token)


ALL_WAIT = 1_000
"""By how much what all CCDs of an exposure wait for goes before CCDs, those of more urgent exposures too: it is short,
and without it workers would be idle as soon as the urgent ones come to their end."""


@contextmanager
def before_ccds() -> Iterator[None]:
    """Let the tasks of the flow inside the ``with`` block go before all CCDs that somebody waits for."""
    with prioritised(_priority.get() + ALL_WAIT):
        yield


class ComputeTaskRunner(DaskTaskRunner):
    """Runs tasks on the cluster of the run.

    Parameters
    ----------
    configuration
        The cluster; None to look it up when it is first needed.
    """

    def __init__(self, configuration: ComputeCluster | None = None) -> None:
        self._configuration = configuration
        self._shared: Cluster | None = None
        self._is_owner = False
        self._serialized: dict[str, Any] | None = None
        super().__init__()

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
        return type(self)(self._configuration)

    def __enter__(self) -> Self:
        """Join the parent flow's cluster, or get ready to start one."""
        super().__enter__()
        self._shared = _cluster.get()
        if self._shared is None:
            self._shared = Cluster(self._configuration)
            self._is_owner = True
            _cluster.set(self._shared)
        if _is_child_run():
            quiet = temporary_settings(restore_defaults={PREFECT_FLOWS_HEARTBEAT_FREQUENCY})
            self._exit_stack.enter_context(quiet)
        return self

    def __exit__(self, *args: Any) -> None:  # noqa: ANN401
        """End the cluster if this runner's flow is the one that made it."""
        try:
            if self._is_owner and self._shared is not None:
                _cluster.set(None)
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
    def together(self) -> Iterator[None]:
        """Work on the run's cluster with the flows that share it inside the ``with`` block."""
        with self._run_cluster().turns.together():
            yield

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
        """Submit a task, with the priority that its flow was given.

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
            priority=_priority.get(),
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

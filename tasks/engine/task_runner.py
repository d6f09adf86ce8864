"""The task runner of the flows: Dask workers on this machine, or the cluster of the ``ComputeCluster`` block.

The cluster is started when the first task is submitted. Subflows share the cluster of their parent, in any thread, so
that there is one cluster per run and ending the run ends its tasks. They inherit the parent's options, unless
:func:`with_options` sets others.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID, uuid4

from prefect import Flow
from prefect.client.schemas.objects import RunInput
from prefect.context import FlowRunContext, SettingsContext, get_settings_context, serialize_context
from prefect.task_engine import run_task_sync
from prefect.task_runners import TaskRunner
from prefect.tasks import Task
from prefect.utilities.collections import visit_collection
from prefect.utilities.engine import collect_task_run_inputs_sync

from blocks.cluster import ComputeCluster
from tasks.engine.cluster import Cluster
from tasks.engine.lone_run import lone_run
from tasks.engine.replay import as_function, is_plain

if TYPE_CHECKING:
    from prefect_dask.client import PrefectDaskClient
    from prefect_dask.task_runners import PrefectDaskFuture


NOBODY_WAITS = -1_000_000
"""Priority of work that is done in advance, such as the preparation of templates."""

AHEAD = 1_000
"""Added to the priority of steps that are not mapped, above that of all mapped jobs: such a step is short, and all
later jobs of its subject depend on it, so that running it late would leave workers idle."""

AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options that a flow run passes to its subflows.

    Attributes
    ----------
    priority
        Dask priority of its tasks; among waiting tasks of several flows, those of higher priority run first.
    page_run
        Flow run that gets its artifacts; None for its own. Artifacts of subflows belong on the page of the outer run.
    listeners
        Functions called with every :class:`tasks.engine.progress.Progress`.
    """

    priority: int = 0
    page_run: UUID | None = None
    listeners: tuple[Callable[[Any], None], ...] = ()


def current_run() -> UUID | None:
    """Return the identifier of the current flow run; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def page_run() -> UUID | None:
    """Return the identifier of the flow run that gets the artifacts; None outside of a run."""
    runner = ComputeTaskRunner.current()
    return (runner.options.page_run if runner else None) or current_run() or lone_run()


def with_options(
    flow: AnyFlow,
    *,
    cluster: ComputeCluster | None = None,
    priority: int | None = None,
    page_run: UUID | None = None,
    listener: Callable[[Any], None] | None = None,
) -> AnyFlow:
    """Return a copy of a flow with other options than the current run, whose cluster it shares.

    Parameters
    ----------
    flow
        The flow.
    cluster
        Cluster to use outside of a run; None for the saved block.
    priority, page_run
        As in :class:`RunOptions`; None for those of the current run.
    listener
        Additional listener of progress.
    """
    if is_plain():
        return as_function(flow)
    runner = ComputeTaskRunner.current()
    options = runner.options if runner else RunOptions()
    changes: dict[str, Any] = {"priority": priority, "page_run": page_run}
    changes = {name: value for name, value in changes.items() if value is not None}
    if listener is not None:
        changes["listeners"] = (*options.listeners, listener)
    called = copy(flow)
    called.task_runner = ComputeTaskRunner(cluster, options=replace(options, **changes))
    return called


class ComputeTaskRunner(TaskRunner["PrefectDaskFuture[Any]"]):
    """Submits tasks to the Dask cluster of the run. Dask is imported with the first task that is submitted.

    Parameters
    ----------
    configuration
        The cluster; None to load the saved block on first use. Ignored by subflows, which share the parent's cluster.
    options
        Options of the run; None to inherit those of the parent run.
    """

    def __init__(self, configuration: ComputeCluster | None = None, *, options: RunOptions | None = None) -> None:
        self._configuration = configuration
        self._given = options
        self._shared: Cluster | None = None
        self._is_owner = False
        self._is_ahead = False
        self._serialized: dict[str, Any] | None = None
        self._quiet = ExitStack()
        self.options = options or RunOptions()
        super().__init__()

    def __reduce__(self) -> tuple[type[Self], tuple[ComputeCluster | None]]:
        """Pickle the configuration only, for flows that are sent to workers with their tasks."""
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
        """Return a new runner with the same configuration and options, not started."""
        return type(self)(self._configuration, options=self._given)

    def __enter__(self) -> Self:
        """Share the parent flow's cluster, or prepare one that starts on first use.

        A subflow run sends no heartbeats, its outermost caller does. They delay the end of a run by up to a second, and
        the server closes a run that sends them more rarely than it expects. Prefect enters the runner before the
        context of the run: the current one is the caller's.
        """
        super().__enter__()
        parent = self.current()
        if parent is not None:
            self._shared = parent._run_cluster()
            self.options = self._given or parent.options
        else:
            self._shared = Cluster(self._configuration)
            self._is_owner = True
        if FlowRunContext.get() is not None:
            self._quiet.enter_context(_without_heartbeats())
        return self

    def __exit__(self, *args: Any) -> None:  # noqa: ANN401
        """Close the cluster if this runner owns it."""
        try:
            if self._is_owner and self._shared is not None:
                self._shared.close()
        finally:
            self._shared = None
            self._quiet.close()
            super().__exit__(*args)

    @property
    def client(self) -> "PrefectDaskClient":
        """The client of the run's cluster, which is started on first use."""
        return self._run_cluster().client()

    def _run_cluster(self) -> Cluster:
        if self._shared is None:
            raise RuntimeError("the task runner must be started before work is submitted")
        return self._shared

    @contextmanager
    def together(self, *, ahead: bool = False) -> Iterator[None]:
        """Hold shared access to the run's cluster inside the ``with`` block.

        Parameters
        ----------
        ahead
            Whether to submit with a priority above that of all mapped jobs.
        """
        with self._run_cluster().turns.together():
            self._is_ahead = ahead
            try:
                yield
            finally:
                self._is_ahead = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold exclusive access, to one worker with more memory, inside the ``with`` block; other flows wait."""
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
    ) -> "PrefectDaskFuture[Any]":
        """Submit a task with the priority of its run.

        Does the same as ``DaskTaskRunner.submit`` and ``PrefectDaskClient.submit`` at a third of the cost. These
        serialize the context for every task; Prefect has no public way to reuse it. Hence the internals: ``_started``
        (no public property says whether a runner is started), ``run_task_sync`` and ``collect_task_run_inputs_sync``.
        """
        import distributed
        from prefect_dask.task_runners import PrefectDaskFuture

        def unwrapped(value: Any) -> Any:  # noqa: ANN401
            return value.wrapped_future if isinstance(value, PrefectDaskFuture) else value

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
            parameters=visit_collection(parameters, visit_fn=unwrapped, return_data=True),
            wait_for=visit_collection(wait_for, visit_fn=unwrapped, return_data=True) if wait_for else None,
            dependencies={name: found | (dependencies or {}).get(name, set()) for name, found in inputs.items()},
            context=self._context(),
            return_type="state",
        )
        return PrefectDaskFuture[Any](wrapped_future=future, task_run_id=task_run_id)

    def _context(self) -> dict[str, Any]:
        """Return the serialized context of the flow run, computed once.

        It is the same for all tasks of a run, and serializing it, mostly Prefect's settings, is the largest cost of a
        submission. The settings are left out if the workers have inherited them.
        """
        if self._serialized is None:
            self._serialized = serialize_context()
            if self._shared is not None and self._shared.knows_settings:
                self._serialized["settings_context"] = {}
        return self._serialized


def _without_heartbeats() -> SettingsContext:
    """Return the current settings without heartbeats; ``temporary_settings`` reads all settings anew, for 20 ms."""
    context = get_settings_context()
    flows = context.settings.flows.model_copy(update={"heartbeat_frequency": None})
    return SettingsContext(profile=context.profile, settings=context.settings.model_copy(update={"flows": flows}))


def runs_here() -> bool:
    """Whether the steps of the current flow run are run in this process, one after another, without Dask."""
    runner = ComputeTaskRunner.current()
    return runner._run_cluster().runs_here if runner is not None else is_plain()


@contextmanager
def on_the_cluster(*, alone: bool = False, ahead: bool = False) -> Iterator[None]:
    """Hold shared access to the run's cluster (``ahead``: with raised priority), or exclusive access (``alone``).

    Does nothing with task runners of other classes.
    """
    runner = ComputeTaskRunner.current()
    if runner is None:
        yield
        return
    with runner.alone() if alone else runner.together(ahead=ahead):
        yield

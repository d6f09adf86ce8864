"""The task runner of the flows: worker processes on this machine, or a cluster that the site names.

The runner is lazy: as long as nothing is submitted, no cluster is started. A flow that is called by another flow shares
the cluster of its parent, whatever thread it runs in, so that there is one cluster per run and ending the run ends its
work. Which cluster it is, is decided when it is first needed, in this order: the address of a running scheduler in
``GW_WORKFLOW_DASK_ADDRESS``; the block ``ComputeCluster`` that the runner was given or that is saved as ``default``;
one worker process per core of this machine.
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Self
from uuid import uuid4

import dask
import distributed
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT
from prefect.client.schemas.objects import RunInput
from prefect.context import FlowRunContext, serialize_context
from prefect.logging import get_logger
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)
from prefect.task_engine import run_task_sync
from prefect.tasks import Task
from prefect.utilities.engine import collect_task_run_inputs_sync
from prefect_dask import DaskTaskRunner
from prefect_dask.client import PrefectDaskClient
from prefect_dask.task_runners import PrefectDaskFuture

from blocks.cluster import ComputeCluster, load_cluster
from imaging.errors import InputError
from imaging.threads import LIBRARY_THREAD_VARIABLES

ADDRESS_VARIABLE = "GW_WORKFLOW_DASK_ADDRESS"
"""Environment variable with the address of a running scheduler, such as ``tcp://127.0.0.1:8786``."""

DASK_SETTINGS = {
    # Dask tries a task on this many further workers before it gives it up; fewer blame the innocent neighbours.
    "distributed.scheduler.allowed-failures": 3,
    # A scheduler without workers would wait for ever.
    "distributed.scheduler.no-workers-timeout": "120s",
    # What a worker has to say is that its connections end with the run; what matters is logged by the nanny here.
    "logging.distributed": "critical",
}


class Cluster:
    """A cluster that is started when it is first needed and closed by who made it.

    Parameters
    ----------
    configuration
        What it is; None to look it up when it is first needed.

    Attributes
    ----------
    knows_settings
        Whether the workers were started with Prefect's settings of this process, so that they need not be sent along.
    """

    def __init__(self, configuration: ComputeCluster | None = None) -> None:
        self._configuration = configuration
        self._client: PrefectDaskClient | None = None
        self.knows_settings = False
        self._lock = threading.Lock()
        self._opened = ExitStack()

    @property
    def is_started(self) -> bool:
        """Whether anything has needed it."""
        return self._client is not None

    def client(self) -> PrefectDaskClient:
        """Return the client, starting or reaching the cluster if nobody has yet."""
        with self._lock:
            if self._client is None:
                _require_server()
                logging.getLogger("distributed").setLevel(logging.WARNING)
                self._opened.enter_context(dask.config.set(DASK_SETTINGS))
                address = os.environ.get(ADDRESS_VARIABLE)
                target: Any = address or self._start(self._configuration or load_cluster())
                self._client = self._opened.enter_context(PrefectDaskClient(target, set_as_default=False))
            return self._client

    def _start(self, configuration: ComputeCluster) -> Any:  # noqa: ANN401
        logger = get_logger(__name__)
        if configuration.address:
            logger.info("Using the Dask scheduler at %s", configuration.address)
            return configuration.address
        if configuration.cluster_class:
            module, _, name = configuration.cluster_class.rpartition(".")
            logger.info("Starting a cluster of class %s", configuration.cluster_class)
            cluster = self._opened.enter_context(
                getattr(import_module(module), name)(**configuration.cluster_arguments)
            )
            if configuration.n_workers:
                cluster.scale(configuration.n_workers)
            return cluster
        workers = configuration.n_workers or CPU_COUNT
        memory = (
            int(configuration.memory_limit_gb * 2**30) if configuration.memory_limit_gb else MEMORY_LIMIT // workers
        )
        logger.info("Starting %d workers with a memory limit of %.1f GB each", workers, memory / 2**30)
        self.knows_settings = configuration.processes
        options: dict[str, Any] = {}
        if configuration.processes:
            settings = get_current_settings().to_environment_variables(exclude_unset=True)
            options["env"] = settings | {name: os.environ.get(name, "1") for name in LIBRARY_THREAD_VARIABLES}
        return self._opened.enter_context(
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=configuration.processes,
                memory_limit=memory,
                dashboard_address=":0",
                **options,
            )
        )

    def close(self) -> None:
        """End the client and, if it was started here, the cluster."""
        with self._lock:
            self._client = None
            self._opened.close()


def _require_server() -> None:
    """Refuse to let every worker process start a temporary server of its own.

    Raises
    ------
    InputError
        If no Prefect server is named.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "worker processes need a Prefect server",
            value="PREFECT_API_URL is not set",
            remedy="use the command gw-workflow, which starts one, or start one and set PREFECT_API_URL",
        )


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
        if self._shared is None:
            raise RuntimeError("the task runner must be started before work is submitted")
        return self._shared.client()

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> PrefectDaskFuture[Any]:
        """Submit a task; a job that has a priority keeps it in Dask's queue.

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
            priority=getattr(parameters.get("job"), "priority", 0),
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

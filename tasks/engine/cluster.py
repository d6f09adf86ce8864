"""A cluster of Dask workers that is started when it is first needed, and the turns that its users take.

Which cluster it is, is decided when it is first needed, in this order: the address of a running scheduler in
``GW_WORKFLOW_DASK_ADDRESS``; the block ``ComputeCluster`` that it was given or that is saved as ``default``; one worker
process per core of this machine.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import dask
import distributed
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL, get_current_settings
from prefect_dask.client import PrefectDaskClient

from blocks.cluster import ComputeCluster, load_cluster
from imaging.errors import InputError
from imaging.threads import LIBRARY_THREAD_VARIABLES

ADDRESS_VARIABLE = "GW_WORKFLOW_DASK_ADDRESS"
"""Environment variable with the address of a running scheduler, such as ``tcp://127.0.0.1:8786``."""

ALLOWED_FAILURES = 3
"""Dask tries a task on this many further workers before it gives it up; fewer blame the innocent neighbours."""

START_ATTEMPTS = 3
"""Worker processes that die while they start, by the kernel's hand or a person's, are started this many times."""

DASK_SETTINGS = {
    # What a worker has to say is that its connections end with the run; what matters is logged by the nanny here.
    "logging.distributed": "critical",
}


class Turns:
    """Lets many work together or one alone; who wants to be alone goes before those who come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._waiting = 0
        self._alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work with others inside the ``with`` block, after those who want to be alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work alone inside the ``with`` block, as soon as the others have ended."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._together)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class Cluster:
    """A cluster that is started when it is first needed and closed by who made it.

    Parameters
    ----------
    configuration
        What it is; None to look it up when it is first needed.
    allowed_failures
        On how many further workers Dask tries a task whose worker died before it gives the task up.

    Attributes
    ----------
    knows_settings
        Whether the workers were started with Prefect's settings of this process, so that they need not be sent along.
    turns
        Who uses it with others, and who alone.
    """

    def __init__(
        self, configuration: ComputeCluster | None = None, *, allowed_failures: int = ALLOWED_FAILURES
    ) -> None:
        self._configuration = configuration
        self._allowed_failures = allowed_failures
        self._client: PrefectDaskClient | None = None
        self._is_closed = False
        self.knows_settings = False
        self.turns = Turns()
        self._lock = threading.Lock()
        self._opened = ExitStack()

    @property
    def is_started(self) -> bool:
        """Whether anything has needed it."""
        return self._client is not None

    @property
    def configuration(self) -> ComputeCluster:
        """What it is."""
        if self._configuration is None:
            self._configuration = load_cluster()
        return self._configuration

    @contextmanager
    def with_more_memory(self) -> Iterator["Cluster"]:
        """Wait until nobody works here, and offer one worker with more memory inside the ``with`` block."""
        with self.turns.alone():
            if self._is_closed:
                raise RuntimeError("the run and its cluster have ended")
            roomy = Cluster(self.configuration.with_more_memory(), allowed_failures=0)
            try:
                yield roomy
            finally:
                roomy.close()

    def client(self) -> PrefectDaskClient:
        """Return the client, starting or reaching the cluster if nobody has yet.

        Raises
        ------
        RuntimeError
            If it has been closed: the run is over, and nothing of it may begin any more.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the run and its cluster have ended")
            if self._client is None:
                _require_server()
                logging.getLogger("distributed").setLevel(logging.WARNING)
                self._opened.enter_context(dask.config.set(DASK_SETTINGS | self._limits()))
                target: Any = os.environ.get(ADDRESS_VARIABLE) or self._start(self.configuration)
                self._client = self._opened.enter_context(PrefectDaskClient(target, set_as_default=False))
            return self._client

    def _limits(self) -> dict[str, Any]:
        return {
            "distributed.scheduler.allowed-failures": self._allowed_failures,
            "distributed.scheduler.no-workers-timeout": f"{self.configuration.patience_s:g}s",
        }

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
        workers, memory = configuration.local_workers, configuration.local_memory_bytes
        logger.info("Starting %d workers with a memory limit of %.1f GB each", workers, memory / 2**30)
        self.knows_settings = configuration.processes
        options: dict[str, Any] = {}
        if configuration.processes:
            settings = get_current_settings().to_environment_variables(exclude_unset=True)
            options["env"] = settings | {name: os.environ.get(name, "1") for name in LIBRARY_THREAD_VARIABLES}
        return self._opened.enter_context(
            _local_cluster(
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
            self._is_closed = True
            self._client = None
            self._opened.close()


def _local_cluster(**options: Any) -> distributed.LocalCluster:  # noqa: ANN401
    """Start worker processes on this machine, again if one of them dies before it is there.

    Raises
    ------
    RuntimeError
        If workers die in each of the attempts.
    """
    for _ in range(START_ATTEMPTS - 1):
        try:
            return distributed.LocalCluster(**options)
        except RuntimeError as error:
            get_logger(__name__).warning("The workers did not start (%s); starting them again", error)
    return distributed.LocalCluster(**options)


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

"""The block that says which compute cluster a run uses."""

from typing import Any, Self

from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed.system import MEMORY_LIMIT
from prefect.blocks.core import Block
from pydantic import Field

from blocks.saved import saved_block

LOCAL_PATIENCE_S = 120.0
"""A scheduler without workers would wait for ever."""

MORE_MEMORY = 4
"""How many times the memory of its workers a batch system is asked for when a CCD ran out of it."""


class ComputeCluster(Block):
    """Where the tasks of a run are done: processes on this machine, a running scheduler, or a cluster class."""

    _block_type_name = "Compute Cluster"
    _block_type_slug = "gw-compute-cluster"
    _description = "Where the tasks of a run are done."

    n_workers: int | None = Field(
        default=None, ge=1, title="Workers", description="Worker processes; empty for one per core of this machine."
    )
    memory_limit_gb: float | None = Field(
        default=None,
        gt=0,
        title="Memory limit",
        description="GiB per worker process, above which it is restarted; empty for an equal share of the machine's.",
    )
    retry_memory_gb: float | None = Field(
        default=None,
        gt=0,
        title="Memory for a retry",
        description="GiB for the one worker on which a CCD that ran out of memory is tried again, alone; empty for all "
        "of this machine's memory, or four times the argument memory of a cluster class.",
    )
    processes: bool = Field(
        default=True, description="Whether each worker is a process; otherwise they are threads, for debugging."
    )
    address: str | None = Field(
        default=None,
        description="Address of a running Dask scheduler, such as tcp://host:8786. Cancelling a run does not stop its "
        "tasks there; a cluster of its own per run does.",
    )
    cluster_class: str | None = Field(
        default=None,
        title="Cluster class",
        description="Dotted name of a Dask cluster class, such as dask_jobqueue.HTCondorCluster; imported when needed.",
    )
    cluster_arguments: dict[str, Any] = Field(
        default_factory=dict, title="Cluster arguments", description="Keyword arguments of the cluster class."
    )
    queue_hours: float = Field(
        default=12.0,
        gt=0,
        title="Patience",
        description="Hours for which CCDs wait while a batch system has not started any worker; then they fail.",
    )

    @property
    def patience_s(self) -> float:
        """Seconds for which a task waits while there is no worker at all: workers of this machine start in a moment."""
        return 3600.0 * self.queue_hours if self.cluster_class else LOCAL_PATIENCE_S

    @property
    def local_workers(self) -> int:
        """Number of worker processes on this machine."""
        return self.n_workers or CPU_COUNT

    @property
    def local_memory_bytes(self) -> int:
        """Memory of each worker process on this machine, above which it is restarted."""
        if self.memory_limit_gb is None:
            return MEMORY_LIMIT // self.local_workers
        return min(int(self.memory_limit_gb * 2**30), MEMORY_LIMIT)

    def with_more_memory(self) -> Self:
        """Return one worker of the same kind with more memory; a running scheduler stays as it is."""
        if self.address:
            return self
        if not self.cluster_class:
            memory = max(self.retry_memory_gb or MEMORY_LIMIT / 2**30, self.local_memory_bytes / 2**30)
            return self.model_copy(update={"n_workers": 1, "memory_limit_gb": memory})
        arguments = dict(self.cluster_arguments)
        if self.retry_memory_gb:
            arguments["memory"] = f"{self.retry_memory_gb:g} GiB"
        elif "memory" in arguments:
            arguments["memory"] = f"{MORE_MEMORY * parse_bytes(arguments['memory'])} B"
        return self.model_copy(update={"n_workers": 1, "cluster_arguments": arguments})


def load_cluster(name: str = "default") -> ComputeCluster:
    """Return the saved block of this name; the processes of this machine if there is no server or no such block."""
    return saved_block(ComputeCluster, name) or ComputeCluster()

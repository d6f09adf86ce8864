"""The block that says which compute cluster a run uses."""

from typing import Any

from prefect.blocks.core import Block
from pydantic import Field

from blocks.saved import saved_block


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


def load_cluster(name: str = "default") -> ComputeCluster:
    """Return the saved block of this name; the processes of this machine if there is no server or no such block."""
    return saved_block(ComputeCluster, name) or ComputeCluster()

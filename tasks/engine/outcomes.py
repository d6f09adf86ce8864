"""Turn the end of a task run, whatever it was, into a typed outcome."""

from typing import Any

from dask.utils import format_bytes
from distributed import Client
from distributed.scheduler import KilledWorker
from httpx import HTTPError, TransportError
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, PrefectWrappedFuture
from prefect.logging import get_logger
from prefect.results import ResultRecord
from prefect.states import Crashed
from prefect.task_engine import TaskRunTimeoutError

from blocks.site import Site
from imaging.errors import CcdError, InputError, NoWorkError, StorageError
from tasks.engine.jobs import Failure, Job, Outcome, StepResult
from tasks.engine.limits import StuckError


def final_task_state(future: PrefectFuture[Any]) -> State[Any]:
    """Wait for a task run and return the state in which it ended.

    A task that Dask has given up on stays ``Running`` in Prefect for ever; it is marked ``Crashed`` here.
    """
    future.wait()
    state = future.state
    if state.is_final() or state.name == "NotReady":
        return state
    error: Exception = LostTaskError("lost by Dask")
    if isinstance(future, PrefectWrappedFuture):
        found = future.wrapped_future.exception()
        is_killed = isinstance(found, KilledWorker)
        error = why_killed(future.wrapped_future.client, found) if is_killed else LostTaskError.of(found)
    message = str(error)
    with get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(future.task_run_id, Crashed(message=message), force=True)
        except HTTPError as failure:
            # It has died before its first event was recorded, or the server is away: the outcome is the same.
            get_logger(__name__).info("task run %s cannot be marked as crashed: %s", future.task_run_id, failure)
    return Crashed(message=message, data=error)


class LostTaskError(Exception):
    """A step was not even begun, or nobody knows how it ended: no worker, no server, no connection."""

    @classmethod
    def of(cls, error: BaseException | None) -> "LostTaskError":
        """Return what Dask says of a step that has not come to an end of its own."""
        return cls(f"lost by Dask: {type(error).__name__}: {error}")


class LostWorkerError(Exception):
    """Every worker that began a step has died."""


class OutOfMemoryError(MemoryError):
    """Workers that began a step went beyond their memory and were ended."""


MEMORY_EVENTS = "worker-restart-memory"
"""Topic under which Dask's nannies say which workers they have ended for want of memory."""


def why_killed(client: Client, error: KilledWorker) -> LostWorkerError | OutOfMemoryError:
    """Tell a step whose workers ran out of memory from one whose workers were killed.

    Parameters
    ----------
    client
        Client of the cluster.
    error
        What Dask says when it has given up a step.
    """
    times = error.allowed_failures + 1
    died = f"{times} worker process{'es' if times > 1 else ''} died of it"
    events = client.get_events(MEMORY_EVENTS)
    used = [event["rss"] for _, event in events if event["worker"] == error.last_worker.address]
    if used:
        return OutOfMemoryError(f"{died}: out of memory at {format_bytes(used[-1])}")
    return LostWorkerError(f"{died}: killed, perhaps by the system for want of memory")


def outcome_of(job: Job, state: State[Any]) -> Outcome:
    """Turn the state in which a task run ended into a result or a failure."""
    data = state.data.result if isinstance(state.data, ResultRecord) else state.data
    if state.is_completed() and isinstance(data, StepResult):
        return done_outcome(job, data, cached=state.name == "Cached")
    _forget_persisted_error(job.site, state)
    return Outcome(job, failure=failure_of(data, f"{job.label}: {state.message}"))


def done_outcome(job: Job, result: StepResult, *, cached: bool) -> Outcome:
    """Return the outcome of a step that was done, or that found nothing to do."""
    if result.nothing_to_do is None:
        return Outcome(job, result=result, cached=cached)
    failure = Failure(reason=result.nothing_to_do, message=" ".join(result.notes), kind="no_work")
    return Outcome(job, failure=failure, cached=cached)


def failure_of(error: object, message: str) -> Failure:
    """Say of which kind an error is.

    Parameters
    ----------
    error
        What the step raised, or what Dask said when it lost the step.
    message
        What to say if the error does not say it in one sentence itself.
    """
    match error:
        case NoWorkError():
            return Failure(reason=error.reason, message=error.sentence(), kind="no_work")
        case CcdError():
            return Failure(reason=error.reason, message=error.sentence(), kind="ccd")
        case InputError():
            return Failure(reason="bad_input", message=error.sentence(), kind="input")
        case StorageError():
            return Failure(reason="storage", message=error.sentence(), kind="storage")
        case StuckError() | TaskRunTimeoutError():
            return Failure(reason="time_limit", message=message, kind="lost")
        case MemoryError():
            return Failure(reason="out_of_memory", message=message, kind="memory")
        case LostWorkerError():
            return Failure(reason="lost_worker", message=message, kind="lost")
        case LostTaskError():
            return Failure(reason="lost", message=message, kind="lost")
        case OSError() | TransportError():
            return Failure(reason=type(error).__name__, message=message, kind="storage")
        case BaseException():
            return Failure(reason=type(error).__name__, message=message, kind="defect")
        case _:
            return Failure(reason="lost", message=message, kind="lost")


def _forget_persisted_error(site: Site, state: State[Any]) -> None:
    """Remove the file in which Prefect keeps the error of a failed task: errors are no records."""
    if isinstance(state.data, ResultRecord) and state.data.metadata.storage_key:
        path = site.records / state.data.metadata.storage_key
        if path.parent.resolve() == site.records.resolve():
            path.unlink(missing_ok=True)

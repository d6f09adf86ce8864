"""Convert final states of task runs, including lost and killed ones, into outcomes."""

from typing import TYPE_CHECKING, Any, cast

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
from tasks.engine.running_scheduler import LostSchedulerError

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.scheduler import KilledWorker


def final_task_state(future: PrefectFuture[Any]) -> State[Any]:
    """Wait for a task run and return its final state.

    A task run that Dask gave up stays ``Running`` in Prefect, which has no public way to learn of it from the task
    runner; it is set to ``Crashed`` here. If it had ended, but its result has not arrived, the server's state lacks the
    result: the task is lost all the same, and its record is found when it is submitted again.
    """
    if not isinstance(future, PrefectWrappedFuture):
        future.wait()
        return future.state
    try:
        return cast(State[Any], future.wrapped_future.result())
    except Exception:  # noqa: BLE001 - Dask raises whatever ended the task
        error = why_lost(future.wrapped_future)
    crashed: State[Any] = Crashed(message=str(error), data=error)
    try:
        if not future.state.is_final():
            with get_client(sync_client=True) as client:
                client.set_task_run_state(future.task_run_id, Crashed(message=str(error)), force=True)
    except HTTPError as failure:
        # The server does not know the task run yet, or is unavailable: the outcome is the same.
        get_logger(__name__).info("cannot set task run %s to Crashed: %s", future.task_run_id, failure)
    return crashed


def why_lost(future: "Future[Any]") -> Exception:
    """Return why Dask gave up a task."""
    if future.status != "error":  # cancelled by the loss of the scheduler, or finished and its result out of reach
        return LostSchedulerError("the connection to the Dask scheduler was lost")
    from distributed.scheduler import KilledWorker

    error = future.exception()
    return why_killed(future.client, error) if isinstance(error, KilledWorker) else LostTaskError.of(error)


class LostTaskError(Exception):
    """A step did not start, or its final state is unknown: no worker, no server, or no connection."""

    @classmethod
    def of(cls, error: BaseException | None) -> "LostTaskError":
        """Return the error for a task that Dask gave up with ``error``."""
        return cls(f"lost by Dask: {type(error).__name__}: {error}")


class LostWorkerError(Exception):
    """Every worker process that ran a step died."""


class OutOfMemoryError(MemoryError):
    """Workers that ran a step exceeded their memory limit and were terminated by their nannies."""


MEMORY_EVENTS = "worker-restart-memory"
"""Dask event topic of workers that their nannies terminated at the memory limit."""


def why_killed(client: "Client", error: "KilledWorker") -> LostWorkerError | OutOfMemoryError:
    """Return whether the workers of a step ran out of memory or were killed by something else.

    Parameters
    ----------
    client
        Client of the cluster.
    error
        The error with which Dask gave up the task.
    """
    from dask.utils import format_bytes

    times = error.allowed_failures + 1
    died = f"{times} worker process{'es' if times > 1 else ''} died while running it"
    events = client.get_events(MEMORY_EVENTS)
    used = [event["rss"] for _, event in events if event["worker"] == error.last_worker.address]
    if used:
        return OutOfMemoryError(f"{died}: out of memory at {format_bytes(used[-1])}")
    return LostWorkerError(f"{died}: killed, perhaps by the kernel because memory ran out")


def outcome_of(job: Job, state: State[Any]) -> Outcome:
    """Return the outcome of a job from the final state of its task run."""
    data = state.data.result if isinstance(state.data, ResultRecord) else state.data
    if state.is_completed() and isinstance(data, StepResult):
        return done_outcome(job, data, cached=state.name == "Cached")
    _forget_persisted_error(job.site, state)
    return Outcome(job, failure=failure_of(data, f"{job.label}: {state.message}"))


def done_outcome(job: Job, result: StepResult, *, cached: bool) -> Outcome:
    """Return the outcome of a job from its result; a failure of kind ``no_work`` if there was nothing to do."""
    if result.nothing_to_do is None:
        return Outcome(job, result=result, cached=cached)
    failure = Failure(reason=result.nothing_to_do, message=" ".join(result.notes), kind="no_work")
    return Outcome(job, failure=failure, cached=cached)


def failure_of(error: object, message: str) -> Failure:
    """Classify an error.

    Parameters
    ----------
    error
        Error raised by the step, or by Dask when it lost the step.
    message
        Message to use for errors that are not of this project.
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
        case LostSchedulerError():
            return Failure(reason="lost_scheduler", message=message, kind="lost")
        case LostTaskError():
            return Failure(reason="lost", message=message, kind="lost")
        case OSError() | TransportError():
            return Failure(reason=type(error).__name__, message=message, kind="storage")
        case BaseException():
            return Failure(reason=type(error).__name__, message=message, kind="defect")
        case _:
            return Failure(reason="lost", message=message, kind="lost")


def has_lost_its_scheduler(outcome: Outcome) -> bool:
    """Whether the scheduler of a job was lost while the job waited or ran."""
    return outcome.failure is not None and outcome.failure.reason == "lost_scheduler"


def is_worth_being_alone(outcome: Outcome, attempt: int) -> bool:
    """Whether to retry a job alone: it was lost or ran out of memory, and did not exceed its time limit.

    Parameters
    ----------
    outcome
        Outcome of the last attempt.
    attempt
        Number of earlier attempts alone; with 1 or more only lost tasks are retried, not dead workers or memory.
    """
    failure = outcome.failure
    if failure is None or failure.kind not in ("memory", "lost") or failure.reason == "time_limit":
        return False
    return attempt == 0 or failure.reason == "lost"


def _forget_persisted_error(site: Site, state: State[Any]) -> None:
    """Delete the file in which Prefect persists the error of a failed task, so that it is not taken for a record.

    ``persist_result`` applies to results and errors alike; Prefect has no public option to persist results only.
    """
    if isinstance(state.data, ResultRecord) and state.data.metadata.storage_key:
        path = site.records / state.data.metadata.storage_key
        if path.parent.resolve() == site.records.resolve():
            path.unlink(missing_ok=True)

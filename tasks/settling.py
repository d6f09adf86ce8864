"""Turn the end of a task run, whatever it was, into a typed outcome."""

from typing import Any

from distributed.scheduler import KilledWorker
from httpx import HTTPError
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, PrefectWrappedFuture
from prefect.logging import get_logger
from prefect.results import ResultRecord
from prefect.states import Crashed

from blocks.site import Site
from imaging.errors import CcdError, InputError, NoWorkError, StorageError
from tasks.records import Failure, Outcome, StepJob, StepResult


def settle(future: PrefectFuture[Any]) -> State[Any]:
    """Wait for a task run and return the state in which it ended.

    A task that Dask has given up on stays ``Running`` in Prefect for ever; it is marked ``Crashed`` here.
    """
    future.wait()
    state = future.state
    if state.is_final() or state.name == "NotReady":
        return state
    error = future.wrapped_future.exception() if isinstance(future, PrefectWrappedFuture) else None
    if isinstance(error, KilledWorker):
        message = (
            f"{error.allowed_failures + 1} worker processes died of it: killed, out of memory or past the time limit"
        )
    else:
        message = f"lost by Dask: {type(error).__name__}: {error}"
    with get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(future.task_run_id, Crashed(message=message), force=True)
        except HTTPError as failure:
            # It has died before its first event was recorded, or the server is away: the outcome is the same.
            get_logger(__name__).info("task run %s cannot be marked as crashed: %s", future.task_run_id, failure)
    return Crashed(message=message, data=error)


def outcome_of(job: StepJob, state: State[Any]) -> Outcome:
    """Turn the state in which a task run ended into a result or a failure."""
    data = state.data.result if isinstance(state.data, ResultRecord) else state.data
    if state.is_completed() and isinstance(data, StepResult):
        cached = state.name == "Cached"
        if data.nothing_to_do is None:
            return Outcome(job, result=data, cached=cached)
        failure = Failure(reason=data.nothing_to_do, message=" ".join(data.notes), kind="no_work")
        return Outcome(job, failure=failure, cached=cached)
    _forget_persisted_error(job.site, state)
    return Outcome(job, failure=failure_of(data, f"{job.label}: {state.message}"))


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
        case BaseException() if type(error).__module__.startswith("distributed"):
            return Failure(reason="lost_worker", message=message, kind="lost")
        case OSError() | MemoryError():
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

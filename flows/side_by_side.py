"""Run several subflows concurrently inside one flow."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from prefect.client.schemas.objects import State

from tasks.engine.final_state import error_of
from tasks.engine.replay import StepToRun
from tasks.engine.running_scheduler import SchedulerError
from tasks.requests import ExposureRequest


@contextmanager
def abandonable_pool(at_once: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool that is joined at the end, unless the run is cancelled or interrupted.

    In that case no further call starts, and calls that are still running end when the run's cluster is closed. An
    attempt to do without a run (:mod:`tasks.engine.replay`) ends in all threads before the run begins.
    """
    pool = ThreadPoolExecutor(max_workers=at_once)
    try:
        yield pool
    except BaseException as error:
        is_cancelled = not isinstance(error, Exception | StepToRun)
        pool.shutdown(wait=not is_cancelled, cancel_futures=is_cancelled)
        raise
    pool.shutdown()


def run_side_by_side(
    call: Callable[[ExposureRequest], State[Any]], exposures: Iterable[ExposureRequest], at_once: int
) -> dict[int, State[Any]]:
    """Run a flow for each exposure, several at once: while one waits for its last CCD, the next keeps the cores busy.

    Parameters
    ----------
    call
        Runs the flow and returns its final state.
    exposures
        Exposures in the order in which their flows start.
    at_once
        Number of flows that run at the same time, in threads of this process.

    Returns
    -------
    states
        Exposure number to the final state of its flow.

    Raises
    ------
    SchedulerError
        If the Dask scheduler of the run does not answer.
    """
    with abandonable_pool(at_once) as pool:
        running = {e.expnum: pool.submit(copy_context().run, call, e) for e in exposures}
        states = {expnum: future.result() for expnum, future in running.items()}
    require_scheduler(states.values())
    return states


def require_scheduler(states: Iterable[State[Any]]) -> None:
    """End the run if flows could not go on because the Dask scheduler does not answer.

    Raises
    ------
    SchedulerError
        The error of the first such flow.
    """
    for state in states:
        error = error_of(state)
        if isinstance(error, SchedulerError):
            raise error


def still_running(needed: Iterable[int], running: Mapping[int, Future[State[Any]]]) -> Iterator[frozenset[int]]:
    """Yield the numbers of needed exposures whose flows are still running, each time one of them has ended.

    The iteration ends when all of them have ended.

    Parameters
    ----------
    needed
        Numbers of the needed exposures.
    running
        Exposure number to the future of its flow.
    """
    numbers = frozenset(needed)
    while left := frozenset(expnum for expnum in numbers if not running[expnum].done()):
        yield left
        wait([running[expnum] for expnum in left], return_when=FIRST_COMPLETED)


def run_as_they_come(
    first: Callable[[ExposureRequest], State[Any]],
    exposures: Iterable[ExposureRequest],
    second: Callable[[ExposureRequest, Iterable[frozenset[int]]], State[Any]],
    needs: Mapping[int, Iterable[int]],
    at_once: int,
) -> tuple[dict[int, State[Any]], dict[int, State[Any]]]:
    """Run a first flow for each exposure, and a second flow for some, which depends on first flows of other exposures.

    The second flow of an exposure is submitted after the first flow of the next exposure, so that one of them keeps the
    cores busy while the other waits.

    Parameters
    ----------
    first
        Runs the first flow of an exposure and returns its final state.
    second
        Runs the second flow of an exposure, whose first flow has completed. Its second argument iterates over the
        numbers of needed exposures that are still running, as in :func:`still_running`; it must be exhausted.
    exposures
        Exposures in the order in which their first flows start.
    needs
        Number of each exposure with a second flow to the numbers of the exposures that it needs.
    at_once
        Number of flows that run at the same time, in threads of this process.

    Returns
    -------
    first_states, second_states
        Exposure number to the final state of its flow; an exposure whose first flow did not complete has no second.

    Raises
    ------
    SchedulerError
        If the Dask scheduler of the run does not answer.
    """
    running: dict[int, Future[State[Any]]] = {}

    def follow(exposure: ExposureRequest) -> State[Any] | None:
        if not running[exposure.expnum].result().is_completed():
            return None
        return second(exposure, still_running(needs[exposure.expnum], running))

    with abandonable_pool(at_once) as pool:
        following: dict[int, Future[State[Any] | None]] = {}
        waiting: list[ExposureRequest] = []
        for exposure in exposures:
            running[exposure.expnum] = pool.submit(copy_context().run, first, exposure)
            for earlier in waiting:
                following[earlier.expnum] = pool.submit(copy_context().run, follow, earlier)
            waiting = [exposure] if exposure.expnum in needs else []
        for exposure in waiting:
            following[exposure.expnum] = pool.submit(copy_context().run, follow, exposure)
        processed = {expnum: future.result() for expnum, future in running.items()}
        followed = {expnum: future.result() for expnum, future in following.items()}
    second_states = {expnum: state for expnum, state in followed.items() if state is not None}
    require_scheduler([*processed.values(), *second_states.values()])
    return processed, second_states

"""Run several flows side by side inside one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from prefect.client.schemas.objects import State

from tasks.requests import ExposureRequest


@contextmanager
def abandonable_pool(at_once: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads inside the ``with`` block, which is waited for unless the run is cancelled or interrupted.

    Then nothing more begins, and what still runs in the threads ends with the run's cluster.
    """
    pool = ThreadPoolExecutor(max_workers=at_once)
    try:
        yield pool
    except BaseException as error:
        is_cancelled = not isinstance(error, Exception)
        pool.shutdown(wait=not is_cancelled, cancel_futures=is_cancelled)
        raise
    pool.shutdown()


def run_side_by_side(
    call: Callable[[ExposureRequest], State[Any]], exposures: Iterable[ExposureRequest], at_once: int
) -> dict[int, State[Any]]:
    """Run a flow for each exposure, some at once: while one waits for all its CCDs, the next keeps the cores busy.

    Parameters
    ----------
    call
        Runs the flow and returns the state in which it ends.
    exposures
        Exposures, those that go first in front.
    at_once
        Flows that run at the same time, in threads of this process.

    Returns
    -------
    states
        Exposure number to the state in which its flow has ended.
    """
    with abandonable_pool(at_once) as pool:
        running = {e.expnum: pool.submit(copy_context().run, call, e) for e in exposures}
        return {expnum: future.result() for expnum, future in running.items()}


def run_as_they_come(
    first: Callable[[ExposureRequest], State[Any]],
    exposures: Iterable[ExposureRequest],
    second: Callable[[ExposureRequest], State[Any]],
    needs: Mapping[int, Iterable[int]],
    at_once: int,
) -> tuple[dict[int, State[Any]], dict[int, State[Any]]]:
    """Run one flow for each exposure, and a second one for some as soon as what it needs has gone through the first.

    The second flow of an exposure is begun after the first flow of the one that follows, so that one of them has work
    for the cores while the other waits.

    Parameters
    ----------
    first, second
        Run a flow and return the state in which it ends.
    exposures
        Exposures for the first flow, those that go first in front.
    needs
        Number of each exposure for the second flow to those of the others that it waits for.
    at_once
        Flows that run at the same time, in threads of this process.

    Returns
    -------
    first_states, second_states
        Exposure number to the state in which its flow has ended; an exposure that did not complete the first flow has
        no second.
    """
    running: dict[int, Future[State[Any]]] = {}

    def follow(exposure: ExposureRequest) -> State[Any] | None:
        for expnum in needs[exposure.expnum]:
            running[expnum].result()
        return second(exposure) if running[exposure.expnum].result().is_completed() else None

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
    return processed, {expnum: state for expnum, state in followed.items() if state is not None}

"""Run several flows side by side inside one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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


def still_running(needed: Iterable[int], running: Mapping[int, Future[State[Any]]]) -> Iterator[frozenset[int]]:
    """Tell which flows have not ended yet, again whenever one has; the iteration ends with the last of them.

    Parameters
    ----------
    needed
        Numbers of the exposures that are waited for.
    running
        Number of each exposure to its flow, which has been submitted.
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
    """Run one flow for each exposure, and a second one for some, which is told what it needs of the first.

    The second flow of an exposure is begun after the first flow of the one that follows, so that one of them has work
    for the cores while the other waits.

    Parameters
    ----------
    first
        Runs a flow and returns the state in which it ends.
    second
        The same, after the first flow of the exposure itself. What it needs of others may still be running: it is given
        their numbers, again whenever one has ended, and is to go on to the end of that before it returns.
    exposures
        Exposures for the first flow, those that go first in front.
    needs
        Number of each exposure for the second flow to those of the others that it needs.
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
    return processed, {expnum: state for expnum, state in followed.items() if state is not None}

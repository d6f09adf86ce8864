"""Run several flows side by side inside one."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from prefect.client.schemas.objects import State

from tasks.requests import ExposureRequest


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
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        running = {e.expnum: pool.submit(copy_context().run, call, e) for e in exposures}
        return {expnum: future.result() for expnum, future in running.items()}

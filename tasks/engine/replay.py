"""Flows as plain functions, without a server: to see whether a command has anything to do, or to run for one CCD.

Nothing is started, neither a server nor workers. The flow plans its jobs and looks up their records as it always does,
and flows that it calls are called in the same way. :func:`state_of_records` only looks: the first step without a record
ends the attempt. :mod:`tasks.engine.lone_run` computes the steps in this process.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.utilities.callables import get_call_parameters

AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])

_process = SimpleNamespace(how="")
"""Whether flows are called as plain functions, ``looking`` or ``computing``; a process that does so does only that."""


class StepToRun(BaseException):
    """A step has no record, so that the flow has to run."""


def is_plain() -> bool:
    """Whether flows are called as plain functions."""
    return bool(_process.how)


def is_replaying() -> bool:
    """Whether flows are called as plain functions in which every step must be recorded."""
    return bool(_process.how == "looking")


@contextmanager
def plainly(how: Literal["looking", "computing"]) -> Iterator[None]:
    """Call flows as plain functions inside the ``with`` block."""
    before, _process.how = _process.how, how
    try:
        yield
    finally:
        _process.how = before


def require_records(step: str) -> None:
    """End the attempt to do without a run, if there is one, because a step has to run."""
    if is_replaying():
        raise StepToRun(step)


def as_function(flow: AnyFlow) -> AnyFlow:
    """Return a flow as a plain function of the same parameters that returns its final state."""

    def call(*words: Any, return_state: bool = True, **options: Any) -> Any:  # noqa: ANN401, ARG001
        return flow.fn(**flow.validate_parameters(get_call_parameters(flow.fn, words, options)))

    return call  # type: ignore[return-value]


def state_of_records(flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> State[Any] | None:
    """Return the final state of a flow whose steps are all recorded; None if one has to run, or fails.

    Parameters
    ----------
    flow
        The flow; it returns a state.
    parameters
        Its parameters.
    """
    run: Callable[..., State[Any]] = as_function(flow)
    try:
        with plainly("looking"):
            state = run(**parameters)
    except (StepToRun, Exception):  # noqa: BLE001 (the run meets the same error and tells it)
        return None
    return state if state.is_completed() and state.name == "Completed" else None

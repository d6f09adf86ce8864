"""Whether a command has anything to do: its flow is called as a plain function, in which every step must be recorded.

Nothing is started for it, neither a server nor workers. The flow plans its jobs and looks up their records as it always
does, and flows that it calls are called in the same way. The first step without a record ends the attempt.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.utilities.callables import get_call_parameters

AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])

_attempt = threading.local()
"""Its attribute ``runs`` says whether this thread is calling a flow as a plain function."""


class StepToRun(BaseException):
    """A step has no record, so that the flow has to run."""


def is_replaying() -> bool:
    """Whether a flow is called as a plain function."""
    return getattr(_attempt, "runs", False)


def require_records(step: str) -> None:
    """End the attempt to do without a run, if there is one, because a step has to run."""
    if is_replaying():
        raise StepToRun(step)


def replayed(flow: AnyFlow) -> AnyFlow:
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
    _attempt.runs = True
    run: Callable[..., State[Any]] = replayed(flow)
    try:
        state = run(**parameters)
    except (StepToRun, Exception):  # noqa: BLE001 (the run meets the same error and tells it)
        return None
    finally:
        _attempt.runs = False
    return state if state.is_completed() and state.name == "Completed" else None

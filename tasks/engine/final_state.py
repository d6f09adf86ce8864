"""How a flow run ends, so that a person can tell: complete, complete with units missing, failed.

What a flow returns or raises is also kept in this process (:func:`keep_result`), because the server's answer carries no
data: when the answer to the last state of a run is lost (a locked database, a proxy that gives up), Prefect's client
asks again, is told that the state is known already, and is given the server's copy of it: type, name and message, but
neither the summary nor the error that the flow had put into it.
"""

import functools
import logging
from collections.abc import Collection, Mapping
from typing import Any, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.states import Completed, Failed

from imaging.errors import GWWorkflowError
from tasks.engine.failures import describe_failures
from tasks.engine.jobs import ExitCode, Failure

WITH_FAILURES = "CompletedWithFailures"
"""Name of the state of a run that ended well but lacks units; automations must name it beside ``Completed``."""


class RunFailedError(Exception):
    """The summary of a run that has failed, as what Prefect wants to find in a failed state: an exception.

    Parameters
    ----------
    message
        How the run ended, in one sentence.
    summary
        Its summary, as JSON.
    """

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        super().__init__(message, summary)
        self.summary = dict(summary)

    def __str__(self) -> str:
        """Return how the run ended."""
        return str(self.args[0])


class _OneSentence(logging.Filter):
    """Drops the traceback that Prefect logs for failed states and for errors that say in a sentence what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RunFailedError | GWWorkflowError):
            record.msg, record.args, record.exc_info = f"The run has failed: {error}", (), None
        return True


for _name in ("prefect.engine", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_OneSentence())


def failed_state(message: str, summary: Mapping[str, Any]) -> State[Any]:
    """Return the state of a run that has failed and whose log has a sentence for it, not a traceback."""
    return Failed(message=message, data=RunFailedError(message, summary))


def final_state(
    what: str,
    done: Collection[object],
    failures: Mapping[Any, Failure],
    *,
    minimum: int = 1,
    summary: Mapping[str, Any] | None = None,
) -> State[dict[str, Any]]:
    """Return the state in which a flow ends.

    Parameters
    ----------
    what
        What was processed, such as ``exposure 1300001``.
    done
        Numbers of the units with a result.
    failures
        The others with their failures. Those where there was nothing to do are no failures.
    minimum
        How many must be done for the run not to have failed, if any failed at all.
    summary
        Summary of the run, as JSON; it becomes the state's data.

    Returns
    -------
    state
        ``Completed``, ``Completed`` named ``CompletedWithFailures``, or ``Failed``.
    """
    failed = {key: failure for key, failure in failures.items() if failure.kind != "no_work"}
    message = f"{what}: {len(done)} of {len(done) + len(failed)} done"
    idle = len(failures) - len(failed)
    if idle:
        message += f", nothing to do for {idle}"
    data = dict(summary or {})
    if not failed:
        return Completed(message=message, data=data)
    message += f"; failed: {describe_failures(failed)}"
    if len(done) < minimum:
        return failed_state(message, data)
    return Completed(name=WITH_FAILURES, message=message, data=data)


def merged_state(what: str, stages: Mapping[str, State[Any]]) -> State[dict[str, Any]]:
    """Return the state in which a flow of several stages ends: what came through the last, what failed in any.

    Parameters
    ----------
    what
        What was processed, such as ``exposure 1300001``.
    stages
        Name of each stage that ran to the state in which it ended, in their order.

    Raises
    ------
    Exception
        The error with which a stage ended, if it ended with one.
    """
    summaries = {}
    for name, state in stages.items():
        error = error_of(state)
        if error is not None:
            raise error
        summaries[name] = summary_of(state)
        if not summaries[name]:
            message = f"{what}: {name} ended as {state.name} without a summary; run it again to go on"
            return failed_state(message, {"done": [], "failures": {}, "stages": summaries})
    failures: dict[int, Failure] = {}
    entries: dict[str, Any] = {}
    for summary in summaries.values():
        for unit, entry in summary.get("failures", {}).items():
            entries.setdefault(unit, entry)
            failure = Failure.model_validate({name: entry[name] for name in Failure.model_fields})
            failures.setdefault(int(unit), failure)
    last = next(reversed(summaries.values()), {})
    done = [unit for unit in last.get("done", ()) if unit not in failures]
    return final_state(what, done, failures, summary={"done": done, "failures": entries, "stages": summaries})


def summary_of(state: State[Any]) -> dict[str, Any]:
    """Return the summary that a flow's state carries; empty if it crashed before it had any."""
    data = result_of(state)
    if isinstance(data, RunFailedError):
        return data.summary
    return data if isinstance(data, dict) else {}


def error_of(state: State[Any]) -> BaseException | None:
    """Return the error with which a flow ended; None if it ended with a summary."""
    data = result_of(state)
    return data if isinstance(data, BaseException) and not isinstance(data, RunFailedError) else None


def exit_code(state: State[Any]) -> ExitCode:
    """Return the exit code that says how a flow ended."""
    if not state.is_completed():
        return ExitCode.FAILED
    return ExitCode.MISSING if state.name == WITH_FAILURES else ExitCode.COMPLETE


AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])

_RESULTS: dict[UUID, object] = {}
"""Flow run to what its function has returned or raised."""


def keep_result(run: AnyFlow) -> AnyFlow:
    """Keep what a flow returns or raises until its process ends, for :func:`result_of`; decorates a flow.

    Parameters
    ----------
    run
        The flow; it is changed.

    Returns
    -------
    run
        The same flow.
    """
    body = run.fn

    @functools.wraps(body)
    def call(*words: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            end = body(*words, **options)
        except Exception as error:
            _keep(error)
            raise
        _keep(end.data if isinstance(end, State) else end)
        return end

    run.fn = call
    return run


def result_of(state: State[Any]) -> object:
    """Return the data of the state in which a flow has ended, also where only this process still knows them."""
    if state.data is None or isinstance(state.data, ResultRecordMetadata):
        run = state.state_details.flow_run_id
        return None if run is None else _RESULTS.get(run)
    return state.data.result if isinstance(state.data, ResultRecord) else state.data


def _keep(end: object) -> None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        _RESULTS[context.flow_run.id] = end

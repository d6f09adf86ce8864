"""Final states of flow runs: completed, completed with failures, failed.

What a flow returns or raises is also kept in this process (:func:`keep_result`). If the response to the request that
sets a run's final state is lost (locked database, proxy timeout), Prefect's client retries, the server rejects the
transition, and the client continues with the server's copy of the state: type, name and message, but without its data,
the summary or the error. Prefect has no public way to keep the data of the proposed state in that case.
"""

import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.states import Completed, Failed

from blocks.folders import load_site
from blocks.live_runs import live_run
from imaging.errors import GWWorkflowError, InputError
from tasks.engine.failures import describe_failures
from tasks.engine.jobs import ExitCode, Failure

WITH_FAILURES = "CompletedWithFailures"
"""Name of the completed state of a run with failed units; automations must list it in addition to ``Completed``."""


class RunFailedError(Exception):
    """The summary of a failed run as an exception, because the data of Prefect's failed states must be one.

    Parameters
    ----------
    message
        One sentence: the reason of the failure.
    summary
        Summary of the run, JSON.
    """

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        super().__init__(message, summary)
        self.summary = dict(summary)

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


class _OneSentence(logging.Filter):
    """Replaces the tracebacks that Prefect logs for failed states and for this project's errors by one sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RunFailedError | GWWorkflowError):
            record.msg, record.args, record.exc_info = f"The run has failed: {error}", (), None
        return True


# Prefect has no public option to log a failed flow run without its traceback; these loggers of its engine write them.
for _name in ("prefect.engine", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_OneSentence())


def failed_state(message: str, summary: Mapping[str, Any]) -> State[Any]:
    """Return a failed state that is logged as one sentence, without a traceback."""
    return Failed(message=message, data=RunFailedError(message, summary))


def final_state(
    what: str,
    done: Collection[object],
    failures: Mapping[Any, Failure],
    *,
    minimum: int = 1,
    summary: Mapping[str, Any] | None = None,
) -> State[dict[str, Any]]:
    """Return the final state of a flow run.

    Parameters
    ----------
    what
        What was processed, such as ``exposure 1300001``.
    done
        Numbers of the units with a result.
    failures
        Unit to its failure; those of kind ``no_work`` do not count as failed.
    minimum
        Units that must be done; with fewer, and at least one failure, the run has failed.
    summary
        Summary of the run, JSON; the data of the state.

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
    """Return the final state of a flow of several stages: units done in the last stage, failures of all stages.

    Parameters
    ----------
    what
        What was processed, such as ``exposure 1300001``.
    stages
        Name of each stage that ran to its final state, in order.

    Raises
    ------
    Exception
        The error of a stage that raised one.
    """
    summaries = {}
    for name, state in stages.items():
        error = error_of(state)
        if error is not None:
            raise error
        summaries[name] = summary_of(state)
        if not summaries[name]:
            message = f"{what}: {name} ended as {state.name} without a summary; run it again to continue"
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
    """Return the summary in a flow's final state; empty if the run crashed."""
    data = result_of(state)
    if isinstance(data, RunFailedError):
        return data.summary
    return data if isinstance(data, dict) else {}


def error_of(state: State[Any]) -> BaseException | None:
    """Return the error that a flow raised; None if it ended with a summary."""
    data = result_of(state)
    return data if isinstance(data, BaseException) and not isinstance(data, RunFailedError) else None


def exit_code(state: State[Any]) -> ExitCode:
    """Return the exit code of a command for the final state of its flow."""
    if not state.is_completed():
        return ExitCode.FAILED
    return ExitCode.MISSING if state.name == WITH_FAILURES else ExitCode.COMPLETE


AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])

_RESULTS: dict[UUID, object] = {}
"""Flow run to the result or error of its function."""


def keep_result(run: AnyFlow) -> AnyFlow:
    """Keep the result or error of a flow's runs in this process, for :func:`result_of`; a decorator of flows.

    A run that no other run has called holds its lock meanwhile (:mod:`blocks.live_runs`).

    Parameters
    ----------
    run
        The flow, modified in place.

    Returns
    -------
    run
        The same flow.
    """
    body = run.fn

    @functools.wraps(body)
    def call(*words: Any, **options: Any) -> Any:  # noqa: ANN401
        with _live():
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
    """Return the data of a flow's final state; from this process's copy if the state has lost its data.

    None for a run of another process, or a state without a run.
    """
    if state.data is None or isinstance(state.data, ResultRecordMetadata):
        run = state.state_details.flow_run_id
        return None if run is None else _RESULTS.get(run)
    return state.data.result if isinstance(state.data, ResultRecord) else state.data


@contextmanager
def _live() -> Iterator[None]:
    """Hold the lock of the current run inside the ``with`` block, unless another run has called it."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    parameters = (context.parameters if context is not None else None) or {}
    if run is None or run.parent_task_run_id or "site" not in parameters:
        yield
        return
    try:
        site = load_site(parameters["site"])
    except InputError:  # the flow itself refuses it
        yield
        return
    with live_run(site, run.id):
        yield


def _keep(end: object) -> None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        _RESULTS[context.flow_run.id] = end

"""How a run ended, so that a person can tell: complete, complete with CCDs missing, failed."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from imaging.errors import GWWorkflowError
from tasks.ends import content_of
from tasks.failures import describe_failures
from tasks.records import ExitCode, Failure

WITH_FAILURES = "CompletedWithFailures"
"""Name of the state of a run that ended well but lacks CCDs; automations must name it beside ``Completed``."""


class RunFailedError(Exception):
    """The verdict of a run that has failed, as what Prefect wants to find in a failed state: an exception.

    Parameters
    ----------
    message
        How the run ended, in one sentence.
    summary
        What it has to say, as JSON.
    """

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        super().__init__(message, summary)
        self.summary = dict(summary)

    def __str__(self) -> str:
        """Return how the run ended."""
        return str(self.args[0])


class _ToldInOneSentence(logging.Filter):
    """Leaves the traceback away that Prefect writes for verdicts and for errors that say in a sentence what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RunFailedError | GWWorkflowError):
            record.msg, record.args, record.exc_info = f"The run has failed: {error}", (), None
        return True


for _name in ("prefect.engine", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_ToldInOneSentence())


def failed_state(message: str, summary: Mapping[str, Any]) -> State[Any]:
    """Return the state of a run that has failed and whose log has a sentence for it, not a traceback."""
    return Failed(message=message, data=RunFailedError(message, summary))


def verdict(
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
        CCD numbers (or exposure numbers) with a result.
    failures
        The others with their failures. Those where there was nothing to do are no failures.
    minimum
        How many must be done for the run not to have failed, if any failed at all.
    summary
        What the run has to say, as JSON; it becomes the state's data.

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


def merged_verdict(what: str, stages: Mapping[str, State[Any]]) -> State[dict[str, Any]]:
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
            message = f"{what}: {name} ended as {state.name} without an account of its CCDs; run it again to go on"
            return failed_state(message, {"done": [], "failures": {}, "stages": summaries})
    failures: dict[int, Failure] = {}
    told: dict[str, Any] = {}
    for summary in summaries.values():
        for ccd, entry in summary.get("failures", {}).items():
            told.setdefault(ccd, entry)
            failure = Failure.model_validate({name: entry[name] for name in Failure.model_fields})
            failures.setdefault(int(ccd), failure)
    last = next(reversed(summaries.values()), {})
    done = [ccd for ccd in last.get("done", ()) if ccd not in failures]
    return verdict(what, done, failures, summary={"done": done, "failures": told, "stages": summaries})


def night_verdict(
    what: str,
    processed: Mapping[int, State[Any]],
    searched: Mapping[int, State[Any]],
    failures: Mapping[str, Failure],
    summary: Mapping[str, Any],
) -> State[dict[str, Any]]:
    """Return the state in which a night ends.

    Parameters
    ----------
    what
        The night, in words.
    processed, searched
        Exposure number to the state in which its stages, and its difference, have ended.
    failures
        What failed of the night's own steps, by their names.
    summary
        What the ranking has to say; empty if there was none.
    """
    ended = {**{f"{n} stages": s for n, s in processed.items()}, **{f"{n} difference": s for n, s in searched.items()}}
    lost = dict(failures)
    missing = 0
    for name, state in ended.items():
        if not state.is_completed():
            lost[name] = Failure(reason="exposure_failed", message=state.message or state.name or "", kind="defect")
        missing += len(summary_of(state).get("failures", {}))
    data = {
        "exposures": {str(n): _told(state) for n, state in processed.items()},
        "differences": {str(n): _told(state) for n, state in searched.items()},
        "failures": {name: failure.model_dump() for name, failure in lost.items()},
        "candidates": dict(summary),
    }
    message = f"{what}: {len(processed)} exposures, {len(searched)} searched, "
    message += f"{summary.get('n_candidates', 'no')} candidates"
    if missing:
        message += f"; {missing} CCDs missing"
    if lost:
        message += f"; failed: {', '.join(lost)}"
    if not summary:
        return failed_state(message, data)
    if missing or lost:
        return Completed(name=WITH_FAILURES, message=message, data=data)
    return Completed(message=message, data=data)


def _told(state: State[Any]) -> dict[str, Any]:
    return {"state": state.name, "message": state.message} | summary_of(state)


def summary_of(state: State[Any]) -> dict[str, Any]:
    """Return the summary that a flow's state carries; empty if it crashed before it had any."""
    data = content_of(state)
    if isinstance(data, RunFailedError):
        return data.summary
    return data if isinstance(data, dict) else {}


def error_of(state: State[Any]) -> BaseException | None:
    """Return the error with which a flow ended; None if it ended with a verdict."""
    data = content_of(state)
    return data if isinstance(data, BaseException) and not isinstance(data, RunFailedError) else None


def exit_code(state: State[Any]) -> ExitCode:
    """Return the exit code that says how a flow ended."""
    if not state.is_completed():
        return ExitCode.FAILED
    return ExitCode.MISSING if state.name == WITH_FAILURES else ExitCode.COMPLETE

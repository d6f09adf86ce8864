"""A flow run without a server: for a command of one CCD, whose server would cost more than its steps.

The flow and those that it calls are plain functions (:mod:`tasks.engine.replay`). Every step is the same Prefect task
as on a worker, with its retries, time limit, lock and record; Prefect 3 needs no server for a task run, only the object
of a client. What it would send to a server is kept in the site's state (:mod:`blocks.lone_runs`).
"""

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.logging import get_logger
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from prefect.states import Failed
from prefect.utilities.callables import get_call_parameters

from blocks.live_runs import live_run
from blocks.lone_runs import LogLine, LoneRun, RunPage, write_lone_run
from blocks.site import Site
from imaging.memory import freed_memory_reused
from tasks.engine.replay import as_function, plainly

LOGGERS = ("prefect.task_runs", "prefect.lone_runs")
"""Loggers whose lines a server would show."""

NOWHERE = "http://127.0.0.1:9/api"
"""Address of the client of the task runs, which sends nothing: without an address Prefect makes no client."""


class _Lone:
    """The run of this process: its record and the listener of its progress."""

    current: ClassVar["_Lone | None"] = None

    def __init__(self, record: LoneRun, listener: Callable[[Any], None] | None) -> None:
        self.record = record
        self.listener = listener


def lone_run() -> UUID | None:
    """Return the identity of the current run without a server; None outside of one."""
    lone = _Lone.current
    return lone.record.run if lone else None


def lone_listener() -> Callable[[Any], None] | None:
    """Return the listener of the progress of the current run without a server, if there is one."""
    lone = _Lone.current
    return lone.listener if lone else None


def keep_page(kind: str, key: str, content: Any, description: str) -> bool:  # noqa: ANN401
    """Keep an artifact of the current run without a server; return whether there is such a run."""
    lone = _Lone.current
    if lone is not None:
        lone.record.pages.append(RunPage(kind=kind, key=key, content=content, description=description))
    return lone is not None


def run_alone(
    flow: Flow[Any, Any],
    parameters: Mapping[str, Any],
    site: Site,
    listener: Callable[[Any], None] | None = None,
) -> State[Any]:
    """Run a flow in this process, without a server and workers; return its final state.

    Parameters
    ----------
    flow
        The flow. It returns a state, and calls others by :func:`tasks.engine.task_runner.with_options` only.
    parameters
        Its parameters.
    site
        The site that keeps the record of the run.
    listener
        Function that is called with every :class:`tasks.engine.progress.Progress`.

    Returns
    -------
    state
        What the flow returns; a failed state with the error if it raises one.
    """
    with (
        freed_memory_reused(),
        _recorded(_named(flow, parameters), site, listener) as lone,
        _without_server(),
        plainly("computing"),
    ):
        try:
            state: State[Any] = as_function(flow)(**parameters)
        except Exception as error:  # noqa: BLE001 (as Prefect's engine does)
            state = Failed(message=f"{type(error).__name__}: {error}", data=error)
        lone.record.state_type, lone.record.state_name = state.type.value, state.name or ""
        lone.record.message = state.message or ""
        state.state_details.flow_run_id = lone.record.run
    return state


def _named(flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> LoneRun:
    """Return the record of a run that begins; one with invalid parameters, which it will refuse, has none."""
    name, shown = flow.name, {}
    with suppress(Exception):
        valid = flow.validate_parameters(get_call_parameters(flow.fn, (), dict(parameters)))
        shown = flow.serialize_parameters(valid)
        name = flow.flow_run_name.format(**valid) if isinstance(flow.flow_run_name, str) else name
    host, now = socket.gethostname(), datetime.now(UTC)
    return LoneRun(run=uuid4(), flow=flow.name, name=name, parameters=shown, host=host, began=now)


@contextmanager
def _recorded(record: LoneRun, site: Site, listener: Callable[[Any], None] | None) -> Iterator[_Lone]:
    """Record a run and its log inside the ``with`` block; a site that cannot be written keeps no record."""
    lone, handler = _Lone(record, listener), _Kept(record)
    _Lone.current = lone
    try:
        with live_run(site, record.run):
            with suppress(OSError):
                write_lone_run(site, record)
            for name in LOGGERS:
                logging.getLogger(name).addHandler(handler)
            try:
                yield lone
            except KeyboardInterrupt:
                record.state_type, record.state_name, record.message = "CANCELLED", "Cancelled", "interrupted"
                raise
            finally:
                for name in LOGGERS:
                    logging.getLogger(name).removeHandler(handler)
                record.ended = datetime.now(UTC)
                with suppress(OSError):
                    write_lone_run(site, record)
    finally:
        _Lone.current = None


class _Kept(logging.Handler):
    """Keeps the lines of a run's log."""

    def __init__(self, record: LoneRun) -> None:
        super().__init__(logging.INFO)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        when = datetime.fromtimestamp(record.created, UTC)
        line = LogLine(logger=record.name, level=record.levelno, time=when, text=self.format(record))
        self._record.log.append(line)


@contextmanager
def _without_server() -> Iterator[None]:
    """Let Prefect run tasks inside the ``with`` block without sending anything, and without starting a server."""
    with ExitStack() as stack:
        with temporary_settings({PREFECT_API_URL: NOWHERE, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}):
            stack.enter_context(SyncClientContext())
        quiet = {
            PREFECT_API_KEY: "none",  # with a key and without an address no events are sent
            PREFECT_LOGGING_TO_API_ENABLED: False,
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
        }
        stack.enter_context(temporary_settings(quiet, restore_defaults={PREFECT_API_URL}))
        yield


def lone_logger() -> logging.Logger:
    """Return the logger of what is not said by a step."""
    return get_logger("lone_runs")

"""Run a flow from the command line: start a server if none runs, show progress bars, return the final state."""

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blocks.site import Site
from deployments.checks.needs import require_needs
from deployments.cli.options import Common
from deployments.cli.output import Answer
from deployments.server.database import may_hold_blocks
from deployments.server.server import Server, is_running, server_for
from imaging.errors import GWWorkflowError, InputError
from imaging.io.access import told
from tasks.engine.jobs import ExitCode

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from blocks.cluster import ComputeCluster
    from tasks.engine.progress import Progress


def run_flow(
    command: str,
    common: Common,
    site: Site,
    flow: str,
    parameters: Mapping[str, Any],
    *,
    workers: int | None = None,
    in_process: bool = False,
    plain: bool = False,
    about: Mapping[str, object],
) -> Answer:
    """Run a flow in this process and return its final state as a result.

    Parameters
    ----------
    command
        Name of the command, for the result.
    common
        Options of the command.
    site
        The site.
    flow
        The flow as ``module:name``; it is imported when a server runs.
    parameters
        Parameters of the flow.
    workers
        Worker processes; None for the cluster of the site.
    in_process
        Run one step at a time, in this process.
    plain
        Start no server for a flow whose steps are all recorded; then no run is recorded either. Nor for a flow of one
        CCD in this process; the next server of the site shows its run. Both need a flow that calls others by
        :func:`tasks.engine.task_runner.with_options` only.
    about
        Further entries of the JSON document.

    Raises
    ------
    InputError
        If the input of the flow is invalid.
    """
    quiet_console(verbose=common.verbose)
    require_needs(site)
    if plain and not os.environ.get("PREFECT_API_URL") and not is_running(site):
        known = None if parameters.get("overwrite") else _state_of_records(flow, parameters)
        if known is None and workers is None and _runs_here(site, parameters.get("ccds")):
            known = _run_alone(flow, parameters, site, show=not common.verbose)
        if known is not None:
            return answer_of(command, known, None, **about)
    with server_for(site) as server:
        if server.user:
            sys.stderr.write(f"gw-workflow: uses the server of {server.user}, {server.ui_url}\n")
        from tasks.engine.task_runner import with_options

        cluster = _cluster_for(workers, parameters.get("ccds"), in_process=in_process)
        with progress_bars(show=not common.verbose) as listener:
            run = with_options(_flow_named(flow), cluster=cluster, listener=listener)
            state = run(**parameters, return_state=True)
        return answer_of(command, state, server, **about)


def _flow_named(name: str) -> Any:  # noqa: ANN401
    """Import a flow; garbage is not searched for meanwhile, because an import makes many objects and drops few."""
    module, _, attribute = name.partition(":")
    gc.disable()
    try:
        return getattr(import_module(module), attribute)
    finally:
        gc.freeze()  # nor later among what was imported
        gc.enable()


def _state_of_records(flow: str, parameters: Mapping[str, Any]) -> "State[Any] | None":
    called = _flow_named(flow)  # imports Prefect
    from tasks.engine.replay import state_of_records

    return state_of_records(called, parameters)


def _runs_here(site: Site, ccds: Sequence[int] | None) -> bool:
    """Whether a run is of one CCD, and no cluster is named or saved for it."""
    if ccds is None or len(ccds) != 1 or may_hold_blocks(site.state / "server", "Compute Cluster"):
        return False
    from tasks.engine.cluster import ADDRESS_VARIABLE

    return not os.environ.get(ADDRESS_VARIABLE)


def _run_alone(flow: str, parameters: Mapping[str, Any], site: Site, *, show: bool) -> "State[Any]":
    called = _flow_named(flow)
    from tasks.engine.lone_run import run_alone

    with progress_bars(show=show) as listener:
        return run_alone(called, parameters, site, listener)


def _cluster_for(workers: int | None, ccds: Sequence[int] | None, *, in_process: bool) -> "ComputeCluster | None":
    """Return the cluster of a run: as the options say, at most one worker for each CCD; None for that of the site."""
    from blocks.cluster import ComputeCluster, load_cluster

    if in_process:
        return ComputeCluster(n_workers=1, processes=False)
    if workers is not None:
        return ComputeCluster(n_workers=workers)
    return load_cluster().with_at_most(len(ccds)) if ccds else None


def answer_of(command: str, state: "State[Any]", server: Server | None, **about: object) -> Answer:
    """Return the final state of a flow as a result; ``server`` is None if it needed none.

    Raises
    ------
    InputError
        If the input of the flow is invalid.
    """
    from prefect.exceptions import ParameterTypeError

    from tasks.engine.final_state import error_of, exit_code, summary_of

    error = error_of(state)
    refused = told(error) if isinstance(error, OSError) else None
    if refused is not None:
        raise refused from error
    if isinstance(error, InputError):
        raise error
    if isinstance(error, ParameterTypeError):
        remedy = "see the command's --help"
        raise InputError("invalid parameter", value=" ".join(str(error).split()), remedy=remedy) from error
    code = exit_code(state)
    message = error.sentence() if isinstance(error, GWWorkflowError) else state.message or state.name
    document = {
        "command": command,
        **about,
        "state": state.name,
        "message": message,
        "flow_run_id": str(state.state_details.flow_run_id) if state.state_details.flow_run_id else None,
        "server": None if server is None else server.ui_url,
        "summary": summary_of(state),
    }
    word = {ExitCode.COMPLETE: "complete", ExitCode.MISSING: "complete with CCDs missing"}.get(code, "FAILED")
    return Answer(document, (f"{command}: {word}: {message}",), code)


def quiet_console(*, verbose: int) -> None:
    """Keep Prefect's log lines off the terminal unless ``verbose``; the server receives them in any case."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", ("CRITICAL", "INFO", "DEBUG")[verbose])
    if verbose > 1:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "DEBUG")
    os.environ.setdefault("PREFECT_LOGGING_COLORS", "false")


@contextmanager
def progress_bars(*, show: bool) -> Iterator["Callable[[Progress], None] | None"]:
    """Show a bar per step and subject on standard error, if that is a terminal; yield the listener for the progress."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    with bars() as shown:
        rows: dict[tuple[str, str], TaskID] = {}

        def update(progress: "Progress") -> None:
            key = (progress.subject, progress.step)
            if key not in rows:
                rows[key] = shown.add_task(f"{progress.subject} {progress.step}", total=progress.total)
            text = f"{progress.subject} {progress.step}" + (f" ({progress.failed} failed)" if progress.failed else "")
            shown.update(rows[key], completed=progress.done, description=text)

        yield update


def bars() -> "Bars":
    """Return progress bars on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )

"""Show the runs that had no server on the pages of the next one: name, parameters, log, artifacts and final state."""

import fcntl
from datetime import UTC, datetime
from typing import Any

from blocks.lone_runs import LoneRun, ended_lone_runs, forget_lone_run
from blocks.site import Site
from deployments.server.private import open_private
from deployments.server.server import ask_server

TAG = "without server"
"""Tag of these runs."""

TIMEOUT_S = 60.0
"""Timeout of a request; the disk of a server that has just started may be busy."""

AT_ONCE = 100
"""Lines of a log that are sent in one request."""


def show_lone_runs(site: Site, api_url: str) -> int:
    """Create the runs that no server has shown yet, each once; return their number.

    Prefect gives a run the time at which it is created; its own times are in the message of its state and in its log.

    Parameters
    ----------
    site
        The site, whose state has the runs.
    api_url
        Address of its server.

    Raises
    ------
    OSError, ValueError
        If the server does not answer; what it does not show yet is kept.
    """
    if not ended_lone_runs(site):
        return 0
    with open_private(site.state / "server" / "lone-runs.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = ended_lone_runs(site)  # another command may have shown them meanwhile
        for run in runs:
            _show(run, api_url)
            forget_lone_run(site, run.run)
    return len(runs)


def _show(run: LoneRun, api_url: str) -> None:
    def ask(what: str, question: Any) -> Any:  # noqa: ANN401
        return ask_server(api_url, what, question, TIMEOUT_S)

    end = "its process died" if run.ended is None else _moment(run.ended)
    state = {
        "type": run.state_type,
        "name": run.state_name,
        "message": f"{run.message} (without a server, {_moment(run.began)} to {end})",
    }
    created = ask(
        "flow_runs/",
        {
            "flow_id": ask("flows/", {"name": run.flow})["id"],
            "name": run.name,
            "parameters": run.parameters,
            "tags": [TAG],
            "idempotency_key": str(run.run),
            "state": state,
        },
    )
    lines = [
        {
            "name": line.logger,
            "level": line.level,
            "message": line.text,
            "timestamp": line.time.isoformat(),
            "flow_run_id": created["id"],
        }
        for line in run.log
    ]
    for first in range(0, len(lines), AT_ONCE):
        ask("logs/", lines[first : first + AT_ONCE])
    for page in run.pages:
        about = {"type": page.kind, "key": page.key, "data": page.content, "description": page.description}
        ask("artifacts/", about | {"flow_run_id": created["id"]})


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

"""Watch a site: decide periodically about its nights, and close dead runs."""

import time
from collections.abc import Callable
from threading import Event

from blocks.site import Site
from deployments.events.alerts import announce_alerts
from deployments.events.decisions import Look, look
from deployments.events.server_runs import ServerRuns
from deployments.server.dead_runs import DeadRuns

LOOK_S = 2.0
"""Seconds between two looks at the state of the nights."""

DEAD_S = 10.0
"""Seconds between two looks for dead runs."""

AWAY_S = 2.0
"""Pause after an error of the server, seconds."""


def watch(
    site: Site,
    name: str,
    say: Callable[[str], None],
    *,
    stopped: Event,
    seconds: float | None = None,
    owns_all: bool = False,
) -> list[str]:
    """Decide about the nights of a site until stopped; an error of the server is reported and tried again.

    Parameters
    ----------
    site, name
        The site, and the value of the parameter ``site`` of its runs.
    say
        Writes a line to the log; a line that was said last is not repeated.
    stopped
        Ends the loop when it is set.
    seconds
        Duration; None for no limit.
    owns_all
        Whether this process starts all runs of the server's deployments, so that one that was being started or
        cancelled before is dead.

    Returns
    -------
    created
        Names of the runs that were created.
    """
    created: list[str] = []
    began = time.monotonic()
    dead_runs, next_dead, last = DeadRuns(site, owns_all=owns_all), 0.0, ""
    while not stopped.is_set():
        try:
            with ServerRuns(site, name) as runs:
                while not stopped.is_set():
                    found = look(site, runs)
                    created += found.created
                    announce_alerts(site)
                    text = summary(found)
                    if text and text != last:
                        say(text)
                    last = text
                    if time.monotonic() >= next_dead:
                        dead_runs.look()
                        next_dead = time.monotonic() + DEAD_S
                    if seconds is not None and time.monotonic() - began + LOOK_S > seconds:
                        return created
                    stopped.wait(LOOK_S)
        except Exception as error:  # noqa: BLE001 (the next look compares again)
            text = f"the server does not answer, or not correctly; trying again: {type(error).__name__}: {error}"
            if text != last:
                say(text)
            last = text
            if seconds is not None and time.monotonic() - began + AWAY_S > seconds:
                return created
            stopped.wait(AWAY_S)
    return created


def summary(found: Look) -> str:
    """Return what a look has created, held and not understood, as one line; empty if nothing."""
    parts = [f"created {', '.join(found.created)}"] if found.created else []
    parts += [f"night {night}: {reason}" for night, reason in (found.held | found.errors).items()]
    return "; ".join(parts)


def decide_now(site: Site, name: str) -> Look:
    """Decide once about the nights of a site, on the server that Prefect's settings name.

    Raises
    ------
    Exception
        If the server does not answer.
    """
    with ServerRuns(site, name) as runs:
        return look(site, runs)

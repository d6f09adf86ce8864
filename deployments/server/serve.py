"""Serve a site from one machine: server, deployments, triggers and the watcher in one process."""

import asyncio
import fcntl
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from blocks.site import Site
from deployments.server.applied import Applied, ask_with, pause_deployments, plan_deployments
from deployments.server.definitions import DEFINITIONS, Definition, served_definition, served_deployment
from deployments.server.gate import PUBLIC_VARIABLE, SIGN_IN
from deployments.server.identity import make_secret
from deployments.server.private import open_private
from deployments.server.server import Server, ask_server, server_for
from deployments.server.server_settings import HEARTBEAT_S
from imaging.errors import InputError
from imaging.io.access import user_name

if TYPE_CHECKING:
    from prefect.runner import Runner

POLL_S = 2
"""Seconds between two queries for runs to start."""


def serve(
    site: Site,
    *,
    name: str | None = None,
    definitions: Sequence[Definition] = DEFINITIONS,
    port: int | None = None,
    limit: int | None = None,
    on_ready: Callable[[Server], None] | None = None,
) -> None:
    """Serve until interrupted; then end all processes that were started.

    Parameters
    ----------
    site
        The site.
    name
        Name or folder of the site, parameter ``site`` of the runs; None for its root.
    definitions
        The deployments.
    port
        Port of the server, if it is started here; None for any free port.
    limit
        Exposures processed at the same time by all runs; None to keep that limit. Rankings do not count against it.
    on_ready
        Called when the server accepts runs.

    Raises
    ------
    InputError, StorageError
        If the site is served already, or the server cannot be used or started.
    """
    with only_one(site), server_for(site, port=port) as server:
        from prefect import get_client
        from prefect.exceptions import TerminationSignal

        from blocks.folders import register_blocks
        from deployments.server.automations import create_automations
        from deployments.server.limits import create_limits

        register_blocks(site)
        create_automations(flows=[definition.name for definition in definitions])
        applied = Applied.read(site.state / "server", "embedded" if server.embedded else server.api_url)
        create_limits(applied, limit)
        runner = _make_runner()
        with get_client(sync_client=True) as client:
            planned = plan_deployments(ask_with(client), applied, [served_definition(each) for each in definitions])
        for definition, paused in planned:
            runner.add_deployment(served_deployment(definition, name or str(site.root), paused=paused))
        applied.write()
        with _ended_children(), _watching(site, name or str(site.root)):
            if on_ready:
                on_ready(server)
            with suppress(KeyboardInterrupt, TerminationSignal, SystemExit):
                asyncio.run(runner.start())
        pause_deployments(applied)


def _make_runner() -> "Runner":
    """Return a runner that starts the runs of this process, and outlives outages of the server."""
    from prefect.runner import Runner

    from tasks.engine.polling import keep_polling

    keep_polling()
    # Each deployment has a limit; a common limit would make a ranking wait for exposures.
    runner = Runner(
        name="gw-workflow", limit=None, query_seconds=POLL_S, pause_on_shutdown=False, heartbeat_seconds=HEARTBEAT_S
    )
    runner.handle_sigterm = lambda *_: sys.exit(0)  # type: ignore[method-assign]  # Prefect's does not await its coroutine
    return runner


def sign_in_link(server: Server) -> str | None:
    """Return a link that lets one browser in, once; None for a server that is not the site's own.

    Raises
    ------
    OSError, ValueError
        If the server does not answer.
    """
    if not server.embedded:
        return None
    answer = ask_server(server.api_url, SIGN_IN.removeprefix("/"), {})
    public = os.environ.get(PUBLIC_VARIABLE, "").rstrip("/")
    return f"{public or server.ui_url}{SIGN_IN}?token={answer['token']}"


@contextmanager
def only_one(site: Site) -> Iterator[None]:
    """Refuse to serve a site twice; the operating system ends the claim however this process ends.

    Raises
    ------
    InputError
        If another process serves the site.
    """
    path = site.state / "server" / "serve.lock"
    make_secret(path.parent)
    with open_private(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = path.read_text().strip()
            remedy = "stop that process first, or serve another site"
            raise InputError("the site is served already", value=holder or site.root, remedy=remedy) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} of {user_name(os.geteuid())} on {socket.gethostname()}\n".encode())
        lock.flush()
        yield


@contextmanager
def _watching(site: Site, name: str) -> Iterator[None]:
    """Decide about the nights of the site, and close dead runs, in a thread inside the ``with`` block."""
    from prefect.logging import get_logger

    from deployments.events.watching import watch

    stopped = threading.Event()
    say = get_logger(__name__).info
    run = partial(copy_context().run, watch, site, name, say, stopped=stopped, owns_all=True)
    thread = threading.Thread(target=run, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=10)


@contextmanager
def _ended_children(grace_s: float = 10.0) -> Iterator[None]:
    """End all processes, with their descendants, that were started inside the ``with`` block."""
    import psutil

    before = {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}
    try:
        yield
    finally:
        children = [c for c in psutil.Process(os.getpid()).children(recursive=True) if c.pid not in before]
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        _, alive = psutil.wait_procs(children, timeout=grace_s)
        for child in alive:
            with suppress(psutil.NoSuchProcess):
                child.kill()

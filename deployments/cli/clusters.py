"""Commands for a Dask scheduler and workers that run on their own: they come back by themselves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import AT_LEAST_ONE, DEFAULT_DISPLAY, Display
from deployments.cli.output import Answer

PAUSE_S = 2.0
"""Seconds before a program that has ended is started again."""

PRELOAD = ("--preload", "tasks.engine.step")
"""Imports before anybody connects what tasks need: while a scheduler imports it answers nobody, for seconds."""

END_S = 40.0
"""Seconds that a program may take to end."""

NO_WORKERS = "30m"
"""Time for which a scheduler without workers keeps its tasks waiting."""

Certificate = Annotated[Path, Parameter(name="--certificate", help="Folder made by gw-workflow make-certificate.")]


def make_certificate(
    folder: Annotated[Path, Parameter(help="Folder, readable by you alone.")],
    /,
    *,
    display: Display = DEFAULT_DISPLAY,  # noqa: ARG001
) -> Answer:
    """Make the certificate of a Dask scheduler that runs on its own, with its key, good for a year."""
    from tasks.engine.dask_security import write_certificate

    paths = [str(path) for path in write_certificate(folder)]
    return Answer({"command": "make-certificate", "files": paths}, paths)


def dask_scheduler(
    *,
    host: Annotated[str, Parameter(name="--host", help="Address of this machine that workers and flows reach.")],
    certificate: Certificate,
    port: Annotated[int, Parameter(name="--port", help="Port.")] = 8786,
    metrics: Annotated[
        str, Parameter(name="--metrics", help="HOST:PORT of health and metrics, which ask for no certificate.")
    ] = "127.0.0.1:8787",
    display: Display = DEFAULT_DISPLAY,  # noqa: ARG001
) -> Answer:
    """Run a Dask scheduler until interrupted; if it ends by itself it is started again."""
    from tasks.engine.dask_security import HTTP_ROUTES

    words = ["--host", host, "--port", str(port), "--protocol", "tls", "--no-dashboard", "--dashboard-address", metrics]
    settings = {"SCHEDULER__HTTP__ROUTES": str(HTTP_ROUTES), "SCHEDULER__NO_WORKERS_TIMEOUT": NO_WORKERS}
    return _run("distributed.cli.dask_scheduler", [*words, *PRELOAD, *_tls(certificate)], settings)


def dask_workers(
    scheduler: Annotated[str, Parameter(help="Address of the scheduler, tls://HOST:PORT.")],
    /,
    *,
    certificate: Certificate,
    workers: Annotated[int, Parameter(name="--workers", validator=AT_LEAST_ONE, help="Worker processes.")] = 1,
    memory: Annotated[
        float | None, Parameter(name="--memory", help="GB per process; default: an equal share of the machine's.")
    ] = None,
    display: Display = DEFAULT_DISPLAY,  # noqa: ARG001
) -> Answer:
    """Run Dask workers until interrupted. Workers that lost their scheduler end, and are started again."""
    from imaging.threads import LIBRARY_THREAD_VARIABLES
    from tasks.engine.dask_security import WORKER_HTTP_ROUTES, require_encryption

    require_encryption(scheduler, is_allowed=False)
    words = [scheduler, "--nworkers", str(workers), "--nthreads", "1", "--no-dashboard"]
    words += ["--dashboard-address", "127.0.0.1:0", *(["--memory-limit", f"{memory:g}GB"] if memory else [])]
    threads = {name: os.environ.get(name, "1") for name in LIBRARY_THREAD_VARIABLES}
    settings = {"WORKER__HTTP__ROUTES": str(WORKER_HTTP_ROUTES)}
    return _run("distributed.cli.dask_worker", [*words, *PRELOAD, *_tls(certificate)], settings, threads)


def _tls(folder: Path) -> list[str]:
    """Return the words that name a certificate, after checking it."""
    from tasks.engine.dask_security import FILES, read_certificate

    read_certificate(folder)
    certificate, key = (str((folder / name).absolute()) for name in FILES)
    return ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]


def _run(module: str, words: Sequence[str], settings: Mapping[str, str], others: Mapping[str, str] = {}) -> Answer:
    """Run a program of Dask with some of Dask's settings."""
    environment = {f"DASK_DISTRIBUTED__{name}": value for name, value in settings.items()}
    keep_running([sys.executable, "-m", module, *words], {**os.environ, **environment, **others})
    return Answer({}, ("stopped",))


def keep_running(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program until this process is interrupted (SIGINT, SIGTERM); start it again whenever it ends.

    Parameters
    ----------
    command
        The program and its arguments.
    environment
        Its environment.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = None
    try:
        while True:
            process = subprocess.Popen(command, env=environment)
            code = process.wait()
            sys.stderr.write(f"{command[2]} ended with exit code {code}; it is started again in {PAUSE_S:g} s\n")
            time.sleep(PAUSE_S)
    except KeyboardInterrupt:
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
    finally:
        signal.signal(signal.SIGTERM, before)

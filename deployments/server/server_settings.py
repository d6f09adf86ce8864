"""Prefect settings of server, workers and flow runs, as environment variables."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from deployments.server.database import VARIABLE, address_in_use
from deployments.server.identity import AUTH_VARIABLE, without_proxy
from deployments.server.private import make_private_folder, write_private

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""No telemetry; a site may have no internet."""

RUN_RETENTION_DAYS = 60
"""Days after which the server removes finished runs, their logs and artifacts."""

HEARTBEAT_S = 30
"""Seconds between two heartbeats of a run, Prefect's minimum."""

CLIENT = {
    **QUIET,
    # A process without a server fails instead of starting a temporary one.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    # Interval of queries for runs to start, in seconds.
    "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    # A failed request is repeated six times within two minutes. Prefect repeats it after some status codes only, not
    # after 500, which a server answers when all its connections to a stalled database are in use.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    "PREFECT_CLIENT_MAX_RETRIES": "6",
}
"""Settings of every process that runs flows or tasks."""

SERVER = {
    **QUIET,
    # With a relative address the pages work on any port and behind a proxy.
    "PREFECT_SERVER_UI_API_URL": "/api",
    # Pages of other origins get no answer. Our own origin needs no permission; the default allows every origin.
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
    # The new user interface contacts an external address on every page.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # The recorders write single rows by default, at 60 ms of CPU each; in batches 15 ms.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "100",
    # Intervals of services that look into the database, in seconds. By default 5 s (runs that are late or paused too
    # long, runs of new deployments, deliveries to workers), 15 s (workers without heartbeat), and 20 s (subflows and
    # task runs of cancelled runs: a query for each running subflow), which took half of the server's CPU in a night.
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "30",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "30",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "60",
    # Interval at which a run waiting for a concurrency slot tries again, in seconds. Each attempt writes a state and an
    # event; the watcher starts a waiting run as soon as a slot is free. Runs are submitted up to 10 s ahead.
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "75",
    # Events are two thirds of the database; the default is a week.
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
    # Runs are kept for ever by default; products and step records do not depend on them. Orphans are logs and artifacts
    # whose run is gone.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_RETENTION_DAYS * 86400),
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # Metrics of the server at /api/metrics.
    "PREFECT_SERVER_METRICS_ENABLED": "true",
}
"""Settings of the server."""


def server_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables of a server with its files in a folder.

    Its database is there too, unless ``PREFECT_SERVER_DATABASE_CONNECTION_URL`` names another one. Proxies of the
    environment stay in use for addresses outside, such as those of notifications. The pages are copied to a folder of
    each user who starts it: Prefect copies them into its installation by default, which may belong to another user.
    """
    pages = folder / "pages" / str(os.geteuid())
    own = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(pages)}
    return {**SERVER, **without_proxy(), **own, VARIABLE: address_in_use(folder)}


def client_environment(api_url: str, folder: Path, auth_string: str = "") -> dict[str, str]:
    """Return the environment variables of a process that uses a server.

    Over plain HTTP the certificate bundle is not used, but it is read twice per task run, at 60 ms of CPU each; with a
    single certificate 1 ms.

    Parameters
    ----------
    api_url
        Address of the server's API.
    folder
        Folder of the file with one certificate.
    auth_string
        String with which clients authenticate; empty to leave the one of the environment as it is.
    """
    settings = {**CLIENT, **without_proxy(), "PREFECT_API_URL": api_url, "PREFECT_UI_URL": api_url.removesuffix("/api")}
    if auth_string:
        settings[AUTH_VARIABLE] = auth_string
    if api_url.startswith("http://"):
        settings["PREFECT_API_SSL_CERT_FILE"] = str(one_certificate(folder))
    return settings


def one_certificate(folder: Path) -> Path:
    """Write the first certificate of the bundle to a file, once, and return its path."""
    path = folder / "one-certificate.pem"
    if not path.exists():
        make_private_folder(folder)
        import certifi

        text = Path(certifi.where()).read_text(encoding="utf-8")
        start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----\n"
        write_private(path, start + text.partition(start)[2].partition(end)[0] + end)
    return path


@contextmanager
def applied_settings(environment: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the ``with`` block, and Prefect's settings if it is imported already."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    with ExitStack() as stack:
        if "prefect" in sys.modules:
            stack.enter_context(_prefect_settings(environment))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _prefect_settings(environment: dict[str, str]) -> AbstractContextManager[object]:
    import prefect.settings

    known = {name: value for name, value in environment.items() if hasattr(prefect.settings, name)}
    return prefect.settings.temporary_settings(
        {getattr(prefect.settings, name): value for name, value in known.items()}
    )


def drain() -> None:
    """Send the logs and events in Prefect's queues before the server ends."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()

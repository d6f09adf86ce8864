"""The settings of Prefect under which the pipeline runs, as environment variables."""

from pathlib import Path

from deployments.server.database import VARIABLE, address_in_use

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Nothing is reported to anybody: a site may have no internet."""

RUN_RETENTION_DAYS = 60
"""Days for which the server keeps finished runs, their logs and pictures."""

HEARTBEAT_S = 30
"""Seconds between two signs of life of a run; Prefect allows no shorter time."""

CLIENT = {
    **QUIET,
    # A process that finds no server fails, instead of starting a temporary one for itself.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    # A deployment served from this machine looks for new runs as often as this.
    "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    # A request that the server could not do is sent again, six times within two minutes. Prefect does so after some
    # errors only, not after the one of a server whose connections to a stalled database are all in use.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    "PREFECT_CLIENT_MAX_RETRIES": "6",
}
"""Settings of every process that runs flows or tasks."""

SERVER = {
    **QUIET,
    # A relative address of the API makes the pages work on any port and behind a proxy.
    "PREFECT_SERVER_UI_API_URL": "/api",
    # The second version of the pages asks an outside address for its settings, on every page.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # The recorders write one row at a time by default, at 60 ms of CPU each; in batches it is 15 ms.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "100",
    # A run that waits for a deployment's concurrency slot looks again after so many seconds, not 30.
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
    # Two thirds of the database are events; a week of them is Prefect's default, and nobody reads them.
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
    # Runs are kept for ever by default; products and step records do not depend on them.
    # Orphans are what a removal that was interrupted, or somebody's SQL, has left of logs and pictures.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_RETENTION_DAYS * 86400),
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # Prometheus finds the server's figures at /api/metrics.
    "PREFECT_SERVER_METRICS_ENABLED": "true",
}
"""Settings of the server."""


def server_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables of a server that keeps its files in a folder.

    Its database lies there too, unless ``PREFECT_SERVER_DATABASE_CONNECTION_URL`` names another one.
    """
    return {**SERVER, "PREFECT_HOME": str(folder), VARIABLE: address_in_use(folder)}


def client_environment(api_url: str, folder: Path) -> dict[str, str]:
    """Return the environment variables of a process that uses a server.

    Over plain http the certificate bundle is never used, yet it is read twice per task run, at 60 ms of CPU each; a
    file with a single certificate makes that 1 ms.

    Parameters
    ----------
    api_url
        Address of the server's API.
    folder
        Folder in which the file with one certificate is kept.
    """
    settings = {**CLIENT, "PREFECT_API_URL": api_url, "PREFECT_UI_URL": api_url.removesuffix("/api")}
    if api_url.startswith("http://"):
        settings["PREFECT_API_SSL_CERT_FILE"] = str(one_certificate(folder))
    return settings


def one_certificate(folder: Path) -> Path:
    """Write the first certificate of the system's bundle into a file of its own, once, and return its path."""
    path = folder / "one-certificate.pem"
    if not path.exists():
        import certifi

        from imaging.io.atomic import write_text

        text = Path(certifi.where()).read_text(encoding="utf-8")
        start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----\n"
        write_text(path, start + text.partition(start)[2].partition(end)[0] + end)
    return path

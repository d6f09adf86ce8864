"""Metrics of a site for Prometheus: progress of its nights, runs, pending events, free disk.

They are computed at every scrape from the site's state folder and its Prefect server; one process on one machine
suffices for any number of workers.
"""

import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from blocks.nights import read_night, registered_nights
from blocks.site import Site
from deployments.checks.status import subject_status
from deployments.events.alerts import pending_alerts
from deployments.events.decisions import nights_to_do
from deployments.server.database import address_in_use, size_of
from deployments.server.identity import LOOPBACK, Accepted, is_among
from deployments.server.server import api_address, ask_server, is_healthy
from imaging.errors import GWWorkflowError, InputError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.core import Metric

PORT = 9108
"""Default port of the metrics."""

NIGHTS = 3
"""Number of latest nights whose steps are counted; each costs a listing of its records at every scrape."""

RUN_STATES = ("RUNNING", "SCHEDULED", "PENDING", "FAILED", "CRASHED", "COMPLETED", "CANCELLED")

DAY = timedelta(days=1)


class SiteCollector:
    """Computes the metrics of a site at every scrape.

    Parameters
    ----------
    site
        The site.
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def collect(self) -> "Iterator[Metric]":
        """Yield all metrics."""
        yield from self.nights()
        yield from self.waiting()
        yield from self.disk()
        yield from self.server()

    def nights(self) -> "Iterator[Metric]":
        """Yield the registered exposures of the latest nights, and the CCDs done and failed by each step."""
        exposures = _gauge("gw_night_exposures", "Search exposures of a registered night.", ("night",))
        ccds = _gauge(
            "gw_step_ccds", "CCDs of a night that a step has done, or that failed in it.", ("night", "step", "outcome")
        )
        for number in registered_nights(self.site)[-NIGHTS:]:
            try:
                record = read_night(self.site, number).record
            except GWWorkflowError:
                continue  # the watcher reports it
            exposures.add_metric((str(number),), len(record.exposures))
            counts: dict[tuple[str, str], int] = {}
            for subject in (*map(str, (*record.exposures, *record.templates)), f"night-{number}"):
                status = subject_status(self.site, subject)
                for outcome, found in (("done", status.done), ("failed", status.n_failed)):
                    for step, count in found.items():
                        counts[step, outcome] = counts.get((step, outcome), 0) + count
            for (step, outcome), count in counts.items():
                ccds.add_metric((str(number), step, outcome), count)
        yield exposures
        yield ccds

    def waiting(self) -> "Iterator[Metric]":
        """Yield the numbers of nights and alerts that were not announced."""
        nights = _gauge("gw_pending_nights", "Registered nights with runs that are due and have not started.")
        nights.add_metric((), sum(map(bool, nights_to_do(self.site).values())))
        yield nights
        alerts = _gauge("gw_pending_alerts", "Alerts that were not announced to a server.")
        alerts.add_metric((), sum(1 for _ in pending_alerts(self.site)))
        yield alerts

    def disk(self) -> "Iterator[Metric]":
        """Yield the free disk space of the site's folders and the size of the server's database."""
        free = _gauge("gw_disk_free_bytes", "Free disk space of a folder of the site.", ("folder",))
        for name in ("raw", "products", "scratch", "state"):
            folder = getattr(self.site, name)
            if folder.is_dir():
                free.add_metric((name,), shutil.disk_usage(folder).free)
        yield free
        database = _gauge("gw_database_bytes", "Size of the server's database, if its address is known here.")
        try:
            database.add_metric((), size_of(address_in_use(self.site.state / "server")))
        except GWWorkflowError:
            return
        yield database

    def server(self) -> "Iterator[Metric]":
        """Yield whether the server answers, its runs by state, and its workers."""
        api_url = api_address(self.site)
        answers = bool(api_url) and is_healthy(str(api_url))
        up = _gauge("gw_server_up", "Whether the Prefect server answers.")
        up.add_metric((), float(answers))
        yield up
        if not answers:
            return
        runs = _gauge("gw_runs", "Top-level flow runs of the last day, by state.", ("state",))
        workers = _gauge("gw_workers", "Prefect workers of a pool, by status.", ("pool", "status"))
        try:
            for state, count in count_runs(str(api_url)).items():
                runs.add_metric((state.lower(),), count)
            for labels, count in count_workers(str(api_url)).items():
                workers.add_metric(labels, count)
        except (OSError, ValueError):
            return
        yield runs
        yield workers


def count_runs(api_url: str) -> dict[str, int]:
    """Count the top-level flow runs of the last day by type of state.

    Raises
    ------
    OSError, ValueError
        If the server does not answer correctly.
    """
    since = (datetime.now(UTC) - DAY).isoformat()
    chosen = {"parent_task_run_id": {"is_null_": True}, "expected_start_time": {"after_": since}}
    counts = {}
    for state in RUN_STATES:
        question = {"flow_runs": chosen | {"state": {"type": {"any_": [state]}}}}
        counts[state] = int(ask_server(api_url, "flow_runs/count", question))
    return counts


def count_workers(api_url: str) -> dict[tuple[str, str], int]:
    """Count the workers of every pool by status: ``online`` or ``offline``.

    Raises
    ------
    OSError, ValueError
        If the server does not answer correctly.
    """
    counts: dict[tuple[str, str], int] = {}
    for pool in ask_server(api_url, "work_pools/filter", {"limit": 50}):
        for worker in ask_server(api_url, f"work_pools/{pool['name']}/workers/filter", {"limit": 200}):
            key = (pool["name"], str(worker["status"]).lower())
            counts[key] = counts.get(key, 0) + 1
    return counts


def write_metrics(site: Site) -> str:
    """Return the metrics of a site in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteCollector(site))
    return generate_latest(registry).decode()


def serve_metrics(site: Site, port: int, host: str = "127.0.0.1") -> Any:  # noqa: ANN401
    """Serve the metrics from a thread; return the HTTP server, whose ``shutdown`` ends it.

    On an address beyond this machine they are given only to who has the site's token for metrics.

    Raises
    ------
    InputError
        If the port is in use.
    """
    from prometheus_client import CollectorRegistry, make_wsgi_app

    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteCollector(site))
    application = _guarded(make_wsgi_app(registry), site.state / "server", is_open=host in LOOPBACK)
    family = {"server_class": _Server6 if ":" in host else _Server, "handler_class": _Quiet}
    try:
        server = make_server(host, port, application, **family)
    except OSError as error:
        raise InputError("port is in use", value=port, limit="a free port", remedy="choose another port") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 30

    def log_message(self, *_words: object) -> None:
        """Write no line for every request."""


def _guarded(application: "WSGIApplication", folder: Path, *, is_open: bool) -> "WSGIApplication":
    """Let only who has the token, or who is on this machine and names it, reach the metrics."""

    def guarded(environ: "WSGIEnvironment", start: "StartResponse") -> "Iterable[bytes]":
        scheme, _, token = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        host = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname
        has_token = scheme.lower() == "bearer" and is_among(token, Accepted.read(folder).metrics)
        if has_token or (is_open and host in LOOPBACK and "HTTP_ORIGIN" not in environ):
            return application(environ, start)
        start("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
        return [b"the token of gw-workflow metrics --write-credential is needed\n"]

    return guarded


def _gauge(name: str, documentation: str, labels: Iterable[str] = ()) -> Any:  # noqa: ANN401
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, documentation, labels=list(labels))

"""The addresses at which docs/production.md lets Prometheus ask workers and schedulers."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest
from prefect.settings import PREFECT_API_URL

from deployments.server.server_settings import CLIENT
from tasks.engine.dask_security import with_certificate


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def figures(port: int, patience_s: float = 60.0) -> dict[str, float]:
    """Return what is offered at a port, as soon as something is."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
            return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] not in "#"}
        time.sleep(0.2)
    raise TimeoutError(f"nobody offers figures at port {port}")


def test_the_scheduler_of_a_cluster_offers_its_figures_where_the_block_says(tmp_path):
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    port = free_port()
    arguments = {"queue": "night", "cores": 1, "memory": "4GB", "log_directory": str(tmp_path)}
    arguments |= {"scheduler_options": {"dashboard_address": f":{port}"}}
    with with_certificate("dask_jobqueue.SLURMCluster", arguments) as safe, dask_jobqueue.SLURMCluster(**safe):
        found = figures(port)
        with pytest.raises(OSError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5)
    assert found['dask_scheduler_workers{state="idle"}'] == 0.0
    assert found["dask_scheduler_desired_workers"] == 0.0


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_a_worker_offers_the_figures_of_its_process(tmp_path):
    port = free_port()
    asked = CLIENT | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    asked |= {"PREFECT_CLIENT_METRICS_ENABLED": "true", "PREFECT_CLIENT_METRICS_PORT": str(port)}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "figures", "--type", "process"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, env=os.environ | asked, stdout=log, stderr=log)
    try:
        found = figures(port)
    finally:
        worker.terminate()
        worker.wait(30)
    assert found["process_cpu_seconds_total"] > 0.1, (tmp_path / "log").read_text()
    assert found["process_resident_memory_bytes"] > 2e7

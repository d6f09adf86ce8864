"""Dask schedulers and workers that run on their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments.cli import clusters
from deployments.cli.main import run

PROGRAM = """
import sys, time
from pathlib import Path
path = Path(sys.argv[1])
with path.open("a") as stream:
    stream.write("started\\n")
time.sleep(600 if path.read_text().count("started") > 2 else 0)
"""


def test_a_program_that_ends_is_started_again_until_the_command_is_ended(tmp_path):
    """The third one goes on, and ends with the command."""
    path = tmp_path / "starts"
    script = "import sys; from deployments.cli import clusters; clusters.PAUSE_S = 0.1\n"
    script += "clusters.keep_running([sys.executable, '-c', *sys.argv[1:]], dict(__import__('os').environ))"
    words = [sys.executable, "-c", script, PROGRAM, str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (path.exists() and path.read_text().count("started") == 3):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 0
    assert path.read_text().count("started") == 3
    assert said.count("is started again") == 2


@pytest.fixture
def started(monkeypatch) -> list:
    """What would be started: command and environment."""
    calls = []
    monkeypatch.setattr(clusters, "keep_running", lambda command, environment: calls.append((command, environment)))
    return calls


def test_scheduler_and_workers_have_certificate_and_settings(tmp_path, started):
    """Nothing but health and metrics is answered without a certificate, and that on this machine alone."""
    folder = str(tmp_path / "certificate")
    assert run(["make-certificate", folder]) == 0
    assert run(["dask-scheduler", "--host", "10.0.0.1", "--certificate", folder]) == 0
    assert (
        run(["dask-workers", "tls://10.0.0.1:8786", "--certificate", folder, "--workers", "16", "--memory", "4"]) == 0
    )
    (scheduler, its), (worker, theirs) = started
    for words in (scheduler, worker):
        text = " ".join(words)
        assert f"--tls-key {folder}/key.pem" in text
        assert f"--tls-ca-file {folder}/certificate.pem --tls-cert {folder}/certificate.pem" in text
        assert "--no-dashboard --dashboard-address 127.0.0.1:" in text
    assert "--host 10.0.0.1 --port 8786 --protocol tls" in " ".join(scheduler)
    assert "tls://10.0.0.1:8786 --nworkers 16 --nthreads 1" in " ".join(worker)
    assert "--memory-limit 4GB" in " ".join(worker)
    assert its["DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT"] == "30m"
    assert "info" not in its["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    assert theirs["DASK_DISTRIBUTED__WORKER__HTTP__ROUTES"] == "['distributed.http.health']"
    assert theirs["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


def test_workers_without_a_certificate_are_refused(tmp_path, started, capsys):
    assert run(["dask-workers", "tls://10.0.0.1:8786", "--certificate", str(tmp_path)]) == 1
    assert "no certificate of the Dask scheduler" in capsys.readouterr().err
    assert run(["make-certificate", str(tmp_path / "made")]) == 0
    assert run(["dask-workers", "tcp://10.0.0.1:8786", "--certificate", str(tmp_path / "made")]) == 1
    assert "allowed: tls://" in capsys.readouterr().err
    assert started == []

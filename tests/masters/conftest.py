"""Commands of calibrations, run in the process of the tests."""

import json

import pytest

from deployments.cli import calibrations, main
from deployments.cli.running import run_flow
from tasks.engine.jobs import ExitCode


@pytest.fixture
def command(prefect_server, capsys, monkeypatch):
    """Run a command in this process, with the server that all tests share; return its exit code and what it says."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    monkeypatch.setattr(
        calibrations, "run_flow", lambda *words, workers, about: run_flow(*words, in_process=True, about=about)
    )

    def run(site, *words):
        code = main.run([*map(str, words), "--site", str(site.root), "--json"])
        return ExitCode(code), json.loads(capsys.readouterr().out)

    return run

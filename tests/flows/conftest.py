"""One simulated and processed night, shared by the tests of the flows."""

import json
from pathlib import Path

import pytest
from night_site import CCDS, Demonstration, Ran, borrow, gw_workflow

from blocks.site import Site
from deployments.cli import main
from tasks.engine.jobs import ExitCode


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """Return the night of the demonstration with two CCDs."""
    root = tmp_path_factory.mktemp("night")
    ran = gw_workflow("demo", "--sky", "easy", "--root", root, "--ccds", ",".join(map(str, CCDS)))
    return Demonstration(Site.at(root), ran)


@pytest.fixture(scope="session")
def simulated(demonstration: Demonstration) -> Site:
    """Return the site of the demonstration: raw exposures, calibrations, reference catalogues."""
    return demonstration.site


@pytest.fixture
def borrowed(simulated: Site, tmp_path: Path) -> Site:
    """Return an unprocessed site with the input of the simulated night; every file may be replaced."""
    return borrow(simulated, tmp_path / "site")


@pytest.fixture
def command(capsys, monkeypatch, prefect_server):
    """Run a command in this process, with the server that all tests share."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())

    def run(site: Site, *words: object) -> Ran:
        code = main.run([*map(str, words), "--site", str(site.root), "--json"])
        captured = capsys.readouterr()
        return Ran(ExitCode(code), json.loads(captured.out), captured.err)

    return run

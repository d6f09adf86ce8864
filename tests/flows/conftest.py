"""One simulated night, processed once from its registration on, that the tests of the flows share."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blocks.site import Site
from deployments.cli import main
from imaging.identity import raw_name
from tasks.records import ExitCode

ROOT = Path(__file__).parents[2]

NIGHT, SEARCH, TEMPLATES = 20240510, (1300001, 1300077), (1270601, 1277501, 1284401)
CCDS = (27, 34)
"""Neighbours, on one of which the kilonova lies."""


@dataclass(frozen=True)
class Ran:
    """What a command has said."""

    code: int
    document: dict[str, Any]
    error: str

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self.document.get("error") or self.document.get("message"))

    @property
    def failures(self) -> dict[str, Any]:
        """What failed, by CCD."""
        return self.document["summary"]["failures"]


def gw_workflow(*words: object) -> Ran:
    """Run a command in a process of its own, without any server named."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli.main", *map(str, words), "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=840,
    )
    assert done.stdout.strip(), done.stderr[-3000:]
    return Ran(done.returncode, json.loads(done.stdout), done.stderr)


@dataclass(frozen=True)
class Demonstration:
    """A night that was simulated, registered, and processed because its event said so."""

    site: Site
    ran: Ran


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """Return the night of the demonstration with two CCDs."""
    root = tmp_path_factory.mktemp("night")
    ran = gw_workflow("demo", "--root", root, "--ccds", ",".join(map(str, CCDS)))
    return Demonstration(Site.at(root), ran)


@pytest.fixture(scope="session")
def simulated(demonstration: Demonstration) -> Site:
    """Return the site of the demonstration: raw exposures, calibrations, reference catalogues."""
    return demonstration.site


@pytest.fixture
def borrowed(simulated: Site, tmp_path: Path) -> Site:
    """Return a site with the input of the simulated night and nothing done; every file may be replaced."""
    return borrow(simulated, tmp_path / "site")


def contents(site: Site) -> dict[str, str]:
    """Return the digest of every product."""
    return {
        path.relative_to(site.store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.store.rglob("*"))
        if path.is_file()
    }


def borrow(lender: Site, root: Path) -> Site:
    """Make a site whose input files are links to those of another one."""
    for folder in (lender.raw, lender.calibrations, lender.reference):
        for path in folder.rglob("*"):
            if path.is_file():
                link = root / path.relative_to(lender.root)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
    return Site.at(root)


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


def raw_file(site: Site, expnum: int = SEARCH[0]) -> Path:
    """Return the raw file of a search exposure."""
    return site.raw / str(NIGHT) / raw_name(expnum)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of a link, without touching what it points to."""
    path.unlink()
    path.write_bytes(content)


def single_epoch(
    *more: object, expnum: int = SEARCH[0], band: str = "i", night: int = NIGHT, ccds: str = "27"
) -> list[object]:
    """Return the words of the command for one exposure, one CCD at a time in this process."""
    return ["single-epoch", "-E", expnum, "-b", band, "-n", night, "-r", 1, "-p", 1, "-S", 1, "-c", ccds, "-s", *more]

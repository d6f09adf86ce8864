"""Helpers for the tests of the flows: commands and sites."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.identity import raw_name
from tasks.engine.jobs import ExitCode

ROOT = Path(__file__).parents[2]

NIGHT, SEARCH, TEMPLATES = 20240510, (1300001, 1300077), (1270601, 1277501, 1284401)
CCDS = (27, 34)
"""Neighbours, on one of which the kilonova lies."""


@dataclass(frozen=True)
class Ran:
    """Output of a command."""

    code: int
    document: dict[str, Any]
    error: str

    @property
    def message(self) -> str:
        """The error message."""
        return str(self.document.get("error") or self.document.get("message"))

    @property
    def failures(self) -> dict[str, Any]:
        """Failures by CCD."""
        return self.document["summary"]["failures"]


def gw_workflow(*words: object, api_url: str | None = None) -> Ran:
    """Run a command in a separate process, with the given server or without any."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    if api_url:
        environment["PREFECT_API_URL"] = api_url
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
    return Ran(ExitCode(done.returncode), json.loads(done.stdout), done.stderr)


@dataclass(frozen=True)
class Demonstration:
    """A night that was simulated, registered, and processed on its event."""

    site: Site
    ran: Ran


def contents(site: Site) -> dict[str, str]:
    """Return the digest of every product."""
    return {
        path.relative_to(site.store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.store.rglob("*"))
        if path.is_file()
    }


def borrow(lender: Site, root: Path) -> Site:
    """Create a site whose input files are links to those of another one."""
    for folder in (lender.raw, lender.calibrations, lender.reference):
        link_files(folder, root / folder.relative_to(lender.root))
    return Site.at(root)


def borrow_processed(lender: Site, root: Path) -> Site:
    """Create a site with links to inputs, products and records of another one, which stays unchanged."""
    site = borrow(lender, root)
    link_files(lender.store, site.store)
    for folder in (lender.records, lender.nights, lender.state / "tidied"):
        if folder.exists():
            shutil.copytree(folder, root / folder.relative_to(lender.root))
    return site


def link_files(source: Path, target: Path) -> None:
    """Link all files below a folder."""
    for path in source.rglob("*"):
        if path.is_file():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


def raw_file(site: Site, expnum: int = SEARCH[0]) -> Path:
    """Return the raw file of a search exposure."""
    return site.raw / str(NIGHT) / raw_name(expnum)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a link by a file, without changing the target of the link."""
    path.unlink()
    path.write_bytes(content)


def single_epoch(
    *more: object, expnum: int = SEARCH[0], band: str = "i", night: int = NIGHT, ccds: str = "27"
) -> list[object]:
    """Return the arguments of the command for one exposure, one CCD at a time in this process."""
    return ["single-epoch", "-E", expnum, "-b", band, "-n", night, "-r", 1, "-p", 1, "-S", 1, "-c", ccds, "-s", *more]

"""What a command needs is told before anything starts: path, owner, limit and remedy in one sentence."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from blocks.site import FOLDERS, Site
from deployments.checks.needs import LEAST_MEMORY_GB, require_needs
from deployments.cli.main import run
from imaging.errors import InputError
from imaging.io.access import obstacle, told
from imaging.io.calibrations import write_manifest
from imaging.kernel_cache import VARIABLE
from tests.users import ALICE, BOB, WHY_NOT, can_be_others, command_of, home_of

SINGLE_EPOCH = "single-epoch -E 1300001 -b i -n 20240510 -r 1 -p 1 -S 1"

LOOK = """
import json, os, resource, sys
from pathlib import Path
import imaging
from blocks.site import Site
from deployments.checks.needs import require_needs
from imaging.errors import InputError
from imaging.io.calibrations import CalibrationLibrary
from imaging.kernel_cache import VARIABLE, keep_kernels_apart

site, cases = Site.at(sys.argv[1]), json.loads(sys.argv[2])
usual = dict(os.environ)
for name, changes in cases.items():
    os.environ.clear()
    os.environ.update({key: value for key, value in (usual | changes.get("set", {})).items() if value is not None})
    if VARIABLE not in changes.get("set", {}):
        os.environ.pop(VARIABLE, None)
        keep_kernels_apart(Path(imaging.__file__).parent)
    if "limit" in changes:
        resource.setrlimit(resource.RLIMIT_AS, (changes["limit"], changes["limit"]))
    try:
        if "library" in changes:
            library = CalibrationLibrary(Path(changes["library"]))
        else:
            require_needs(Site.at(changes.get("site", sys.argv[1])))
    except InputError as error:
        print(json.dumps([name, error.sentence()]))
    else:
        print(json.dumps([name, ""]))
"""


@pytest.fixture
def place():
    """A folder that every user may search, for sites that root makes for them."""
    folder = Path(tempfile.mkdtemp(prefix="sites-"))
    folder.chmod(0o755)
    yield folder
    for mounted in ("full", "fixed/state"):
        subprocess.run(["umount", str(folder / mounted)], capture_output=True, check=False)
    shutil.rmtree(folder)


def made(root, owner=BOB, **modes):
    """Make the folders of a site for a user, and give some of them to another one with a mode."""
    site = Site.at(root)
    for name in FOLDERS:
        folder = getattr(site, name)
        folder.mkdir(parents=True)
        os.chown(folder, ALICE if name in modes else owner, -1)
        folder.chmod(modes.get(name, 0o755))
    os.chown(root, owner, -1)
    return site


@pytest.mark.security
@pytest.mark.skipif(not can_be_others(), reason=WHY_NOT)
def test_every_obstacle_of_a_user_is_one_sentence(place):
    site = made(place / "good")
    unwritable, unreadable = made(place / "unwritable", products=0o755), made(place / "unreadable", products=0o700)
    closed, fixed, library = made(place / "closed", calibrations=0o700), made(place / "fixed"), made(place / "library")
    write_manifest(library.calibrations, [])
    manifest = library.calibrations / "manifest.json"
    manifest.chmod(0o600)
    (place / "full").mkdir()
    mounts = [["-t", "tmpfs", "-o", "size=1m,mode=1777", "tmpfs", place / "full"], ["--bind", fixed.state, fixed.state]]
    for words in (*mounts, ["-o", "remount,ro,bind", fixed.state]):
        subprocess.run(["mount", *map(str, words)], check=True)
    cases = {
        "good": ({}, ""),
        "no such home": ({"set": {"HOME": "/nowhere/x"}}, "of compiled kernels may not be written (/: of root"),
        "home of root": ({"set": {"HOME": "/usr"}}, "of compiled kernels may not be written (/usr: of root"),
        "no home": ({"set": {"HOME": None}}, f"set HOME, XDG_CACHE_HOME or {VARIABLE}"),
        "kernels": (
            {"set": {VARIABLE: "/usr/kernels"}},
            "compiled kernels may not be written (/usr: of root, mode 755",
        ),
        "no TMPDIR": (
            {"set": {"TMPDIR": "/nowhere"}},
            "folder of temporary files is missing (/nowhere). To do: set TMPDIR",
        ),
        "TMPDIR": ({"set": {"TMPDIR": "/usr"}}, "folder of temporary files may not be written (/usr: of root"),
        "TMPDIR full": ({"set": {"TMPDIR": str(place / "full")}}, f"temporary files is full ({place / 'full'}"),
        "unwritable": ({"site": str(unwritable.root)}, f"({unwritable.products}: of user {ALICE}, mode 755"),
        "unreadable": ({"site": str(unreadable.root)}, f"({unreadable.products}: of user {ALICE}, mode 700"),
        "closed": (
            {"site": str(closed.root)},
            f"folder calibrations of the site may not be read ({closed.calibrations}",
        ),
        "read-only": ({"site": str(fixed.root)}, f"the disk is mounted read-only ({fixed.state}"),
        "manifest": (
            {"library": str(library.calibrations)},
            f"manifest may not be read ({manifest}: of root, mode 600",
        ),
        "library": ({"library": str(closed.calibrations)}, f"manifest may not be read ({closed.calibrations}: of user"),
        "memory": ({"limit": 3_000_000_000}, "memory of a process is limited too low to measure a CCD (2.8 GiB"),
    }
    with home_of(BOB) as environment:
        given = json.dumps({name: changes for name, (changes, _) in cases.items()})
        words = command_of(BOB, [sys.executable, "-c", LOOK, site.root, given])
        done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert set(found) == set(cases)
    for name, (_, expected) in cases.items():
        assert (expected in found[name]) if expected else not found[name], (name, found[name])
        assert not expected or "To do: " in found[name]


def test_a_command_is_refused_before_a_server_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    for command in (SINGLE_EPOCH, "serve"):
        assert run([*command.split(), "--site", str(tmp_path / "site")]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "site").exists()


def test_the_limit_of_memory_is_that_of_the_process(tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    site, unlimited = Site.at(tmp_path), (resource.RLIM_INFINITY,) * 2
    limits = {resource.RLIMIT_AS: unlimited, resource.RLIMIT_DATA: unlimited}
    monkeypatch.setattr("imaging.memory.resource.getrlimit", lambda kind: limits[kind])
    require_needs(site)
    for kind in limits:
        for gigabytes, fits in ((LEAST_MEMORY_GB - 0.1, False), (LEAST_MEMORY_GB + 0.1, True)):
            limits[kind] = (int(gigabytes * 2**30),) * 2
            if fits:
                require_needs(site)
            else:
                with pytest.raises(InputError, match=rf"limited too low.*{gigabytes:.1f} GiB.*ulimit -v"):
                    require_needs(site)
        limits[kind] = unlimited


def test_what_the_system_says_of_rights_and_disks(tmp_path):
    path = tmp_path / "a"
    assert told(FileNotFoundError(2, "missing", str(path))) is None
    assert told(OSError("no number")) is None
    assert "the disk is full" in told(OSError(28, "No space left on device", str(path))).sentence()
    assert f"({tmp_path}: of " in told(PermissionError(13, "Permission denied", str(path))).sentence()
    assert obstacle(path) is obstacle(path, write=True) is None

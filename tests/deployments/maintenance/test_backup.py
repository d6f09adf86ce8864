"""A site is backed up and restored by two commands; nothing is overwritten and nothing damaged is believed."""

import hashlib
import io
import json
import sqlite3
import stat
import tarfile
from contextlib import closing

import pytest

from blocks.site import Site
from deployments.cli.main import run
from deployments.maintenance.backup import LIST, back_up, restore
from deployments.server.cipher import key_path, take_key
from deployments.server.database import prepare_sqlite
from deployments.server.identity import auth_string, make_secret
from imaging.errors import InputError

STATE = {
    "nights/20170817/night.json": b'{"night": 20170817}',
    "nights/20170817/runs/1.json": b'{"end": "completed"}',
    "events/S190814bv/20190814-initial.json": b"{}",
    "sent/tns.jsonl": b'{"candidate": 1}\n',
    "labels/20170817.json": b'{"labels": []}',
    "plans/20170818.json": b"{}",
    "certificates/ca.pem": b"certificate",
    "server/applied.json": b"{}",
}
LEFT_OUT = (
    "records/1300001/detrend.json",
    "fingerprints/x",
    "nights/20170817/registering.lock",
    "serve.log",
    "server/secret.previous",
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with a state, and a database to which somebody writes."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    site = Site.at(tmp_path / "site")
    for name, content in {**STATE, **dict.fromkeys(LEFT_OUT, b"x")}.items():
        (site.state / name).parent.mkdir(parents=True, exist_ok=True)
        (site.state / name).write_bytes(content)
    folder = site.state / "server"
    make_secret(folder)
    prepare_sqlite(folder / "prefect.db")
    take_key(folder, folder / "prefect.db")
    with closing(sqlite3.connect(folder / "prefect.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.execute("INSERT INTO runs VALUES ('finished')")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO runs VALUES ('half written')")
        yield site


def test_a_site_comes_back_elsewhere(site, tmp_path, capsys):
    kept = tmp_path / "site.backup"
    assert run(["backup", str(kept), "--site", str(site.root), "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["files"]
    assert set(names) == {*STATE, "server/prefect.db", "server/secret", "keys/blocks"}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    again = Site.at(tmp_path / "again")
    assert run(["restore", str(kept), "--site", str(again.root)]) == 0
    for name, content in STATE.items():
        assert (again.state / name).read_bytes() == content
    assert auth_string(again.state / "server") == auth_string(site.state / "server")
    assert key_path(again.state / "server").read_text() == key_path(site.state / "server").read_text()
    with closing(sqlite3.connect(again.state / "server" / "prefect.db")) as connection:
        assert connection.execute("SELECT name FROM runs").fetchall() == [("finished",)]
    for folder in ("server", "keys", "certificates"):
        for path in ((again.state / folder), *(again.state / folder).iterdir()):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_nothing_is_overwritten(site, tmp_path):
    kept = tmp_path / "site.backup"
    back_up(site, kept)
    before = kept.read_bytes()
    with pytest.raises(InputError, match="the backup exists already"):
        back_up(site, kept)
    assert kept.read_bytes() == before
    other = Site.at(tmp_path / "other")
    (other.state / "sent").mkdir(parents=True)
    (other.state / "sent" / "tns.jsonl").write_bytes(b"newer")
    with pytest.raises(InputError, match=r"has this file already.*tns.jsonl"):
        restore(other, kept)
    assert [path.name for path in other.state.iterdir()] == ["sent"], "nothing is restored by halves"
    assert (other.state / "sent" / "tns.jsonl").read_bytes() == b"newer"


def test_a_backup_that_others_may_read_is_refused(site, tmp_path):
    kept = tmp_path / "site.backup"
    back_up(site, kept)
    kept.chmod(0o644)
    with pytest.raises(InputError, match=r"open to others.*644.*rotate-secret"):
        restore(Site.at(tmp_path / "again"), kept)


def written(path, contents, *, listed=None, kind=tarfile.REGTYPE):
    """Write a file as a backup is written, with any names and contents."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    document = json.dumps({"version": 1, "files": digests if listed is None else listed}).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in ((LIST, document), *contents.items()):
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), tarfile.REGTYPE if name == LIST else kind
            member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", ["../outside", "/etc/gw", "nights/../../outside", "./nights/x", "nights//x"])
def test_no_file_is_written_outside(tmp_path, name):
    with pytest.raises(InputError, match="outside of the state folder"):
        restore(Site.at(tmp_path / "site"), written(tmp_path / "b", {name: b"x"}))
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "site" / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_files_are_restored(tmp_path, kind):
    with pytest.raises(InputError, match="no backup that can be restored"):
        restore(Site.at(tmp_path / "site"), written(tmp_path / "b", {"nights/x": b""}, kind=kind))


def test_a_damaged_backup_is_refused(site, tmp_path):
    kept, again = tmp_path / "site.backup", Site.at(tmp_path / "again")
    back_up(site, kept)
    content = kept.read_bytes()
    for damaged in (b"", b"junk", content[: len(content) // 2], content[:200] + b"\0" * 50 + content[250:]):
        kept.write_bytes(damaged)
        with pytest.raises(InputError, match="backup"):
            restore(again, kept)
    for listed in ({}, {"nights/x": "0" * 64}, {"nights/y": ""}, [], "files"):
        with pytest.raises(InputError, match="backup"):
            restore(again, written(tmp_path / "b", {"nights/x": b"x"}, listed=listed))
    assert not again.state.exists() or not any(again.state.rglob("*"))

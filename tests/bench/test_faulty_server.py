"""Faults of the server, and the rows of nights with faults."""

import json
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import faulty_server
from bench.faulty_server import Nights, locking, rows_of, stalling
from bench.unreliable import WAYS, Faults

URL = "http://127.0.0.1:4200/api"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(faulty_server, "BEGIN_S", 0.05)


def until(what):
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_locked_database_rejects_writes_until_the_lock_ends(tmp_path):
    path, nights = tmp_path / "prefect.db", Nights()
    database = sqlite3.connect(path, timeout=0, isolation_level=None)
    database.execute("CREATE TABLE runs (name TEXT)")

    def is_locked():
        try:
            database.execute("INSERT INTO runs VALUES ('one')")
        except sqlite3.OperationalError as error:
            return str(error) == "database is locked"
        return False

    with locking(URL, tmp_path, random.Random(1), nights) as api_url:
        assert api_url == URL
        until(is_locked)
    assert not is_locked()
    assert nights.failed >= 1
    database.close()


def test_a_stalled_server_is_suspended_and_resumed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        (tmp_path / "address.json").write_text(json.dumps({"api_url": URL, "pid": server.pid}))

        def state():
            return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0]

        with stalling(URL, tmp_path, random.Random(1), Nights()):
            until(lambda: state() == "T")
        until(lambda: state() != "T")
        server.communicate(b"\n")
    assert server.returncode == 0


def test_requests_are_distinguished_by_kind():
    faults = Faults(lambda kind, n: "broken" if n == 2 else None)
    run = "01a20669-4b87-7c7a-a1d1-03ead536be60"
    lines = [f"POST /api/flow_runs/{run[:-1]}{digit}/set_state HTTP/1.1" for digit in "012"]
    assert [faults.of(line) for line in lines] == [None, "broken", None]
    assert faults.met == {("POST /api/flow_runs/*/set_state", "broken"): 1}
    assert set(WAYS) == {"answer lost", "unavailable", "broken"}


def test_a_night_that_failed_or_differs_is_a_miss(capsys):
    good = rows_of("stalls", Nights(n=2, failed=3))
    assert [row.ok for row in good if row.limit is not None] == [True, True, True]
    bad = rows_of("stalls", Nights(n=2, incomplete=["no candidates"], differing=["a.fits"], more_records=1))
    assert [row.ok for row in bad if row.limit is not None] == [False, False, False]
    assert "stalls: no candidates" in capsys.readouterr().err

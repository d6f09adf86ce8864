"""Nothing looks for anything outside of the machine: no name is looked up, no address called, no asset fetched."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

LISTEN = """
import os, sys

def note(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "None", ""):
        with open(os.environ["CONTACTS"], "a") as stream:
            stream.write(f"{event} {host} by {' '.join(sys.orig_argv[:4])}\\n")

sys.addaudithook(note)
"""

USE = """
import socket, sys, urllib.request
from pathlib import Path
from blocks.site import Site
from deployments.server.serve import sign_in_link
from deployments.server.server import server_for

site = Site.at(sys.argv[1])
with server_for(site) as server:
    from prefect import flow, task
    from blocks.folders import register_blocks
    from deployments.server.applied import Applied
    from deployments.server.automations import create_automations
    from deployments.server.limits import create_limits

    register_blocks(site)
    create_automations()
    create_limits(Applied.read(site.state / "server", "embedded"))

    @task
    def one():
        return 1

    @flow
    def small():
        return one() + one.submit().result()

    assert small() == 2
    signed_in = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    page = signed_in.open(sign_in_link(server)).read().decode()
    Path(sys.argv[2]).write_text(page)
"""


@pytest.fixture
def contacts(tmp_path, monkeypatch):
    """The file in which every Python process that the test starts notes whom it looks for outside of the machine."""
    (tmp_path / "sitecustomize.py").write_text(LISTEN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("CONTACTS", str(tmp_path / "contacts"))
    for name in ("PREFECT_API_URL", "DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "CI"):
        monkeypatch.delenv(name, raising=False)  # what the project sets itself has to do
    return tmp_path / "contacts"


def run(*words):
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, 3), done.stderr[-2000:]
    return done.stdout


CALL_OUT = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), 0.01)\nexcept OSError: pass"


def test_the_watch_would_notice(contacts):
    run("-c", CALL_OUT)
    assert "192.0.2.1" in contacts.read_text()


@pytest.mark.server
def test_server_pages_and_runs_need_no_internet(contacts, tmp_path):
    run("-c", USE, tmp_path / "site", tmp_path / "page.html")
    assert not contacts.exists(), contacts.read_text()
    page = (tmp_path / "page.html").read_text()
    outside = re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']+""", page)
    assert not outside
    assert "/v2" not in re.findall(r'location[^;]*"([^"]*)"', page), (
        "the second version of the pages asks an outside address"
    )


def test_the_command_line_needs_no_internet(contacts, tmp_path):
    assert "gw-workflow" in run("-m", "deployments.cli.main", "--help")
    assert "file locks: work" in run("-m", "deployments.cli.main", "doctor", "--site", tmp_path / "site")
    assert not contacts.exists(), contacts.read_text()

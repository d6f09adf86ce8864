"""The embedded server: started once, shared, ended with its last user."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from blocks.site import Site
from deployments.server.identity import make_secret, proof
from deployments.server.server import (
    _others_port,
    embedded_server,
    is_healthy,
    known_address,
    server_for,
    wait_until_stopped,
)
from deployments.server.server_settings import client_environment, one_certificate, server_environment
from imaging.errors import InputError, StorageError

USE = """
import sys, time
from blocks.site import Site
from deployments.server.identity import make_secret, proof
from deployments.server.server import embedded_server
with embedded_server(Site.at(sys.argv[1])) as server:
    print(server.api_url, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return Site.at(tmp_path)


@pytest.mark.server
def test_a_server_lives_as_long_as_its_users(site):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", USE, str(site.root)], stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        api_url = other.stdout.readline().strip()
        with server_for(site) as server:
            assert server.embedded
            assert server.api_url == api_url
            assert server.ui_url == api_url.removesuffix("/api")
            assert os.environ["PREFECT_API_URL"] == api_url
            other.send_signal(signal.SIGKILL)
            other.wait()
            time.sleep(2)
            assert is_healthy(api_url), "the server ended although it is used"
            run_a_flow()
            os.kill(json.loads((site.state / "server" / "address.json").read_text())["pid"], signal.SIGKILL)
            deadline = time.monotonic() + 60
            while not is_healthy(api_url):
                assert time.monotonic() < deadline, "a server that dies comes back at the same address"
                time.sleep(0.2)
            run_a_flow()
        assert "PREFECT_API_URL" not in os.environ
    assert wait_until_stopped(site, timeout_s=20)
    assert known_address(site) is None


def test_whoever_starts_a_server_that_others_use_starts_it_at_their_port(tmp_path):
    (tmp_path / "address.json").write_text('{"api_url": "http://127.0.0.1:4321/api", "pid": 1, "host": "here"}')
    path = tmp_path / "users.lock"
    with path.open("ab") as other, path.open("ab") as users:
        assert _others_port(tmp_path, users) is None
        fcntl.flock(users, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_SH)
        assert _others_port(tmp_path, users) == 4321


def run_a_flow() -> None:
    from prefect import flow
    from prefect.settings import PREFECT_API_URL

    assert PREFECT_API_URL.value() == os.environ["PREFECT_API_URL"]

    @flow
    def small() -> int:
        return 1

    assert small() == 1


def test_a_named_server_that_is_down_is_an_error(site, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr("deployments.server.server.PATIENCE_S", 0.0)
    with pytest.raises(InputError, match=r"no Prefect server answers.*unset PREFECT_API_URL"), server_for(site):
        pass


class Sleepy(BaseHTTPRequestHandler):
    """Answers no question before the third one; then it proves that it is the server of a folder."""

    asked = 0
    folder = Path()

    def do_GET(self):
        Sleepy.asked += 1
        self.send_response(503 if Sleepy.asked < 3 else 200)
        self.end_headers()
        nonce = parse_qs(urlsplit(self.path).query).get("nonce")
        if Sleepy.asked >= 3 and nonce:
            self.wfile.write(json.dumps({"proof": proof(Sleepy.folder, nonce[0], self.server.server_port)}).encode())

    def log_message(self, *_words):
        pass


@pytest.fixture
def sleepy(site):
    """The address of a server that is there, but stalled at first."""
    Sleepy.asked, Sleepy.folder = 0, site.state / "server"
    with ThreadingHTTPServer(("127.0.0.1", 0), Sleepy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.fixture
def said_to_run(site):
    """Return a function that notes an address for the site's server, whose lock the test holds."""
    folder = site.state / "server"
    make_secret(folder)
    with (folder / "server.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda **note: (folder / "address.json").write_text(json.dumps(note))


def test_a_named_server_that_is_stalled_is_waited_for(site, sleepy, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", sleepy)
    with server_for(site) as server:
        assert server.api_url == sleepy
    assert Sleepy.asked == 4, "when it answers, whether it answers us"


def test_no_second_server_is_started_beside_one_that_is_stalled(site, sleepy, said_to_run):
    """Two servers on one database would lock it for each other."""
    said_to_run(api_url=sleepy, pid=os.getpid())
    with embedded_server(site) as server:
        assert server.api_url == sleepy


def test_no_second_server_is_started_beside_one_that_does_not_answer(site, said_to_run, monkeypatch):
    monkeypatch.setattr("deployments.server.server.STALL_S", 0.5)
    said_to_run(api_url="http://127.0.0.1:9/api", pid=4711)
    with pytest.raises(StorageError, match=r"runs, but does not answer.*process 4711.*stop"), embedded_server(site):
        pass


def test_a_server_on_another_machine_is_not_doubled(site, said_to_run):
    said_to_run(api_url="http://127.0.0.1:9/api", pid=1, host="mountain")
    with pytest.raises(InputError, match=r"another machine.*mountain.*PREFECT_API_URL"), embedded_server(site):
        pass


def test_a_port_that_is_taken_is_an_error(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"port is in use.*{port}, by process {os.getpid()} \(.*another port"),
            embedded_server(site, port=port),
        ):
            pass


def test_a_machine_without_ipv4_is_refused(site, monkeypatch):
    monkeypatch.setattr("deployments.server.ports.HOST", "192.0.2.1")  # an address that no machine has
    with pytest.raises(InputError, match=r"no IPv4 address.*ip address add"), embedded_server(site):
        pass


def test_a_server_that_does_not_start_says_where_to_look(site, monkeypatch):
    monkeypatch.setattr("deployments.server.server.sys.executable", "/bin/false")
    with pytest.raises(StorageError, match=r"does not start.*server\.log"), embedded_server(site):
        pass


def test_the_settings_of_server_and_client(tmp_path):
    server = server_environment(tmp_path)
    assert server["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    assert server["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    plain = client_environment("http://127.0.0.1:4200/api", tmp_path)
    assert plain["PREFECT_API_SSL_CERT_FILE"] == str(tmp_path / "one-certificate.pem")
    assert plain["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert "PREFECT_API_SSL_CERT_FILE" not in client_environment("https://prefect.example/api", tmp_path)


def test_every_setting_exists_in_the_installed_prefect(tmp_path):
    import prefect.settings

    named = {**server_environment(tmp_path), **client_environment("http://127.0.0.1:4200/api", tmp_path)}
    assert [n for n in named if n.startswith("PREFECT_") and not hasattr(prefect.settings, n)] == []


def test_one_certificate_is_enough(tmp_path):
    import ssl

    context = ssl.create_default_context(cafile=str(one_certificate(tmp_path)))
    assert len(context.get_ca_certs()) == 1

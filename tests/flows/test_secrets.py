"""No secret is found in what a night, a failed sending and a doctor leave behind, nor in the list of processes."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from night_site import NIGHT, ROOT, Demonstration, link_files

from blocks.gcn import GcnCredentials
from blocks.notification import NotificationTarget
from blocks.receivers import BrokerCredentials, SkyPortalCredentials, TnsCredentials
from blocks.site import Site
from deployments.server.cipher import key_path
from deployments.server.identity import auth_string, metrics_token
from deployments.server.server import server_for

pytestmark = [pytest.mark.slow, pytest.mark.dask, pytest.mark.server]

MARKS = {name: f"seeded-{name}-5f0c1d" for name in ("tns", "skyportal", "gcn", "webhook", "kafka")}
WHO = {"reporter": "A. Person", "tns_group_id": 135, "skyportal_filter_ids": [1], "skyportal_group_ids": [2]}
WHO |= {"skyportal_instrument_id": 4}


class Echo(BaseHTTPRequestHandler):
    """A receiver that refuses everything and repeats in its answer all that it was told."""

    def do_POST(self):
        told = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        said = json.dumps({"message": f"{self.headers}{told}", "id_message": f"{self.headers}{told}"}).encode()
        self.send_response(400)
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, *_words):
        pass


@pytest.fixture(scope="module")
def echo():
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def secrets_of(site: Site) -> dict[str, str]:
    """Return the secrets of a site, and what is derived from its own."""
    folder = site.state / "server"
    return {
        "secret": (folder / "secret").read_text().strip(),
        "string": auth_string(folder).partition(":")[2],
        "metrics": metrics_token(folder),
        "blocks": key_path(folder).read_text().strip(),
    }


def findings(site: Site, secrets: dict[str, str]) -> list[tuple[str, str]]:
    """Return where in a site secrets are found, but for the files that hold them."""
    homes = {site.state / "server" / "secret", key_path(site.state / "server")}
    found = []
    for path in site.root.rglob("*"):
        if path.is_file() and path not in homes:
            content = path.read_bytes()
            found += [
                (path.relative_to(site.root).as_posix(), name) for name, s in secrets.items() if s.encode() in content
            ]
    return found


def watched(words: list[str], environment: dict[str, str]) -> tuple[str, list[str]]:
    """Run a command; return all that it says, and the command lines of the processes meanwhile."""
    shown: set[str] = set()
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.1):
                shown.update(" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))

        thread = threading.Thread(target=look)
        thread.start()
        said, _ = running.communicate(timeout=600)
        ended.set()
        thread.join()
    return said, sorted(shown)


def test_a_night_leaves_no_secret_behind(demonstration: Demonstration):
    site = demonstration.site
    secrets = secrets_of(site)
    assert findings(site, secrets) == []
    said = json.dumps(demonstration.ran.document) + demonstration.ran.error
    assert not [name for name, secret in secrets.items() if secret in said]


def test_a_failed_sending_and_a_doctor_leave_no_secret_behind(demonstration, echo, tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    site = Site.at(tmp_path / "site")
    link_files(demonstration.site.store, site.store)
    shutil.copytree(demonstration.site.state, site.state, ignore=shutil.ignore_patterns("prefect.db*", "*.lock"))
    who = tmp_path / "who.json"
    who.write_text(json.dumps(WHO))
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_API")} | {"PYTHONFAULTHANDLER": "1"}
    said, shown = "", []
    with server_for(site):
        SkyPortalCredentials(address=echo, token=MARKS["skyportal"]).save("default", overwrite=True)
        TnsCredentials(address=echo, bot_id=7, bot_name="a_bot", api_key=MARKS["tns"]).save("default", overwrite=True)
        GcnCredentials(client_id="id", client_secret=MARKS["gcn"]).save("default", overwrite=True)
        BrokerCredentials(servers="127.0.0.1:9", topic="t", password=MARKS["kafka"]).save("default", overwrite=True)
        NotificationTarget(webhook=f"{echo}/{MARKS['webhook']}").save("default", overwrite=True)
        report = ["report", str(NIGHT), "--settings", str(who), "--best", "1", "--send", "--form"]
        for command in ([*report, "tns"], [*report, "skyportal"], ["doctor"], ["status", str(NIGHT)], ["metrics"]):
            words = [sys.executable, "-m", "deployments.cli.main", *command, "--site", str(site.root)]
            text, seen = watched(words, environment)
            said, shown = said + text, shown + seen
    assert "400" in said, "the receivers were asked, and refused"
    assert "***" in said, "what they repeat is hidden"
    secrets = secrets_of(site) | MARKS
    assert not [name for name, secret in secrets.items() if secret in said]
    assert not [(name, words) for name, secret in secrets.items() for words in shown if secret in words]
    assert findings(site, secrets) == []
    assert any(Path(words.split()[0]).name.startswith("python") for words in shown if words), "processes were seen"

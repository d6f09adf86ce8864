"""A served site, started on one that an earlier version left: who gets in, who does not, and what may be seen."""

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from cryptography.fernet import Fernet
from prefect import flow, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.events import Event, get_events_client
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.logging.clients import get_logs_subscriber
from prefect.server.database import provide_database_interface
from prefect.server.database.dependencies import temporary_database_config
from prefect.server.models import configuration
from prefect.server.schemas.core import Configuration

from bench.page_in_a_browser import CHROMIUM, FLAGS
from blocks.receivers import SkyPortalCredentials
from blocks.site import Site
from deployments.cli.main import run
from deployments.server.cipher import ROW, key_path, take_key
from deployments.server.identity import auth_string
from deployments.server.server import ask_server, server_for, wait_until_stopped
from deployments.server.server_app import OneWriter
from imaging.errors import InputError

ROOT = Path(__file__).parents[3]
MARKER = "marker-of-a-token"

AS_NOBODY = """
import os, sys
os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        open(path, "rb").read(1)
    except PermissionError:
        continue
    print(path)
"""

MARK = "document.documentElement.dataset.executed=1"
HOSTILE = (
    f"<img src=x onerror={MARK}> <svg onload={MARK}></svg> <script>{MARK}</script> [a](javascript:{MARK}) "
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe> the end of it"
)

A_RUN = """
import sys
from prefect import flow
@flow(log_prints=True)
def small(number: int) -> int:
    print("line", number)
    return number
print(small(1), flush=True)
sys.stdin.readline()
print(small(2), flush=True)
"""


async def keep_the_key_in_the_database(database, key):
    """Put the key where Prefect keeps it by default, as in a site of an earlier version."""
    with temporary_database_config(OneWriter(connection_url=f"sqlite+aiosqlite:///{database}")):
        db = provide_database_interface()
        async with db.session_context(begin_transaction=True) as session:
            await configuration.write_configuration(session, Configuration(key=ROW, value={"fernet_key": key}))
        await (await db.engine()).dispose()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A site whose server runs; it was left open, with its key in the database, as by an earlier version."""
    site = Site.at(tmp_path_factory.mktemp("doors") / "site")
    folder = site.state / "server"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
        with server_for(site):
            SkyPortalCredentials(address="https://fritz.example", token=MARKER).save("default")
        assert wait_until_stopped(site)
        key = key_path(folder).read_text().strip()
        asyncio.run(keep_the_key_in_the_database(folder / "prefect.db", key))
        shutil.rmtree(site.state / "keys")
        for path in (folder, *folder.rglob("*")):
            if path.name != "secret":
                path.chmod(0o755 if path.is_dir() else 0o644)
        assert key.encode() in (folder / "prefect.db").read_bytes()
        with server_for(site) as server:
            yield site, server.api_url, key


def answer(url, body=None, **headers):
    """Return the code with which a program that knows nothing is answered."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.server
def test_the_keys_of_receivers_are_given_to_nobody_without_the_secret(served):
    _, api_url, _ = served
    question = {"include_secrets": True, "limit": 200}
    assert MARKER in json.dumps(ask_server(api_url, "block_documents/filter", question)), "we are answered"
    for headers in ({}, {"Authorization": "Basic Z3ctd29ya2Zsb3c6d3Jvbmc="}):
        code, text = answer(f"{api_url}/block_documents/filter", question, **headers)
        assert (code, MARKER in text) == (401, False)
    code, text = answer(f"{api_url}/block_documents/filter", question, Origin="https://evil.example")
    assert code == 403
    assert answer(f"{api_url}/health") == (200, "true")
    for name in ("docs", "openapi.json", "metrics", "version", "ready"):
        assert answer(f"{api_url}/{name}")[0] == 401
    assert answer(api_url.removesuffix("/api"))[0] == 401


@pytest.mark.server
def test_a_site_of_today_is_closed_and_its_key_moved(served):
    site, api_url, key = served
    folder = site.state / "server"
    paths = [folder, *folder.rglob("*"), site.state / "keys", key_path(folder)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
    assert {"prefect.db", "prefect.db-wal", "server.log", "address.json", "secret"} <= {path.name for path in paths}
    assert key_path(folder).read_text().strip() == key, "the same key: what is encrypted stays so"
    assert SkyPortalCredentials.load("default").token.get_secret_value() == MARKER
    with closing(sqlite3.connect(folder / "prefect.db")) as connection:
        blocks = [json.loads(data) for (data,) in connection.execute("SELECT data FROM block_document")]
    decrypted = [Fernet(key).decrypt(data.encode()).decode() for data in blocks]
    assert MARKER in "".join(decrypted), "the way back: PREFECT_SERVER_ENCRYPTION_KEY with this key"
    for path in filter(Path.is_file, folder.rglob("*")):
        assert key.encode() not in path.read_bytes(), f"{path.name} decrypts itself"
    assert take_key(folder, folder / "prefect.db") == key, "a second time nothing is to be done"
    ask_server(api_url, "flow_runs/filter", {"limit": 1})


@pytest.mark.server
@pytest.mark.security
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_nothing(served):
    site, _, _ = served
    readable = site.state.parent / "readable"
    readable.write_text("for all")
    for folder in readable.parents:
        if folder.stat().st_mode & 0o005 != 0o005 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)  # the folders of the test, so that only ours decide
    paths = [str(path) for folder in ("server", "keys") for path in (site.state / folder).iterdir()]
    words = [sys.executable, "-c", AS_NOBODY, str(readable), *paths]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", check=True)
    assert done.stdout.split() == [str(readable)]


@pytest.mark.server
def test_prefects_clients_and_websockets_get_in_by_themselves(served):
    name = "gw.test.doors"

    @flow(log_prints=True)
    def small() -> int:
        print("a line for the log")
        return 1

    async def hear() -> str:
        wanted = EventFilter(event=EventNameFilter(name=[name]))
        async with get_logs_subscriber(), get_events_subscriber(filter=wanted) as heard, get_events_client() as client:
            await client.emit(Event(event=name, resource={"prefect.resource.id": "gw.test"}))
            async for event in heard:
                return event.event
        return ""

    assert small() == 1
    assert asyncio.run(asyncio.wait_for(hear(), 60)) == name
    with get_client(sync_client=True) as client:
        assert client.read_flow_runs(limit=1)


@pytest.mark.server
def test_the_secret_is_replaced_while_a_run_goes_on(served, monkeypatch, capsys):
    site, api_url, _ = served
    folder = site.state / "server"
    old = auth_string(folder)
    words = [sys.executable, "-c", A_RUN]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "1\n"
        shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        assert run(["rotate-secret", "--site", str(site.root)]) == 0
        assert auth_string(folder) != old
        said, _ = running.communicate("\n", timeout=120)
        assert (running.returncode, said) == (0, "2\n")
    secrets = [old, auth_string(folder), (folder / "secret").read_text().strip(), key_path(folder).read_text().strip()]
    secrets = [each.rpartition(":")[2] for each in secrets]
    assert not [words for words in shown if any(secret in words for secret in secrets)]
    log = (folder / "server.log").read_text()
    assert not [secret for secret in secrets if secret in log + capsys.readouterr().out]
    ask_server(api_url, "flow_runs/filter", {"limit": 1})
    monkeypatch.setenv("PREFECT_API_URL", api_url)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    with server_for(site), get_client(sync_client=True) as client:  # the site's own server, named by hand
        assert client.read_flow_runs(limit=1)


@pytest.mark.server
def test_a_named_server_that_refuses_is_told_by_a_sentence(served, monkeypatch, tmp_path):
    _, api_url, _ = served
    stranger = Site.at(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", api_url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "gw-workflow:wrong")
    monkeypatch.setattr("deployments.server.identity._own", {})  # a process that never used this server
    told = r"lets nobody in without its secret.*PREFECT_API_AUTH_STRING"
    with pytest.raises(InputError, match=told) as refused, server_for(stranger):
        pass
    assert "wrong" not in refused.value.sentence()


def in_a_browser(profile, url):
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=20000", url]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False).stdout


def shown(text, profile, url):
    """Return the page once it shows the text: on a busy machine the browser may end before the server has answered."""
    for _ in range(10):
        page = in_a_browser(profile, url)
        if text in page:
            return page
    pytest.fail(f"{text!r} is not on the page {url.partition('?')[0]}: {page}")


@pytest.mark.server
@pytest.mark.optional
@pytest.mark.security
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent")
def test_the_pages_work_after_signing_in(served, tmp_path, capsys):
    site, api_url, _ = served
    ui_url = api_url.removesuffix("/api")
    profile, another = tmp_path / "profile", tmp_path / "another"
    shown("gw-workflow sign-in", profile, ui_url)
    capsys.readouterr()
    assert run(["sign-in", "--site", str(site.root)]) == 0
    link = capsys.readouterr().out.strip()
    in_a_browser(profile, link)
    shown("Dashboard", profile, ui_url)
    page = shown("SkyPortal", profile, f"{ui_url}/blocks")
    assert "default" in page, "the pages read by POST with the cookie"
    shown("gw-workflow sign-in", another, link)
    shown("gw-workflow sign-in", another, ui_url)

    for kind, data in (("markdown", HOSTILE), ("table", json.dumps([{HOSTILE: HOSTILE}]))):
        artifact = ArtifactCreate(type=kind, key="hostile", data=data, description=HOSTILE)
        with get_client(sync_client=True) as client:
            identity = client.create_artifact(artifact).id
        page = shown("the end of it", profile, f"{ui_url}/artifacts/artifact/{identity}")
        assert "data-executed" not in page.partition("<body")[0], (
            "what is written past our escaping executes nothing, too"
        )

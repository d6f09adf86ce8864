"""A server belongs to a site: copies, strangers and proxies get nothing; and two writers do not refuse each other."""

import asyncio
import json
import os
import shutil
import stat
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from prefect import flow
from prefect.events import Event, get_events_client
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import provide_database_interface, temporary_database_config
from prefect.server.utilities.messaging.memory import Topic
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

from blocks.site import Site
from deployments.cli.main import run
from deployments.server.identity import is_own, make_secret, without_proxy
from deployments.server.server import ask_server, embedded_server, known_address, server_for
from deployments.server.server_app import ATTEMPTS, OneWriter, serve_app, take_up_letters
from imaging.errors import InputError

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Noting(BaseHTTPRequestHandler):
    """A stranger, or a proxy: notes what is asked of it, and answers as Prefect's /health does."""

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")

    do_POST = do_CONNECT = do_GET  # noqa: N815

    def log_message(self, *_words):
        pass


@contextmanager
def noting():
    with ThreadingHTTPServer(("127.0.0.1", 0), Noting) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def proxy():
    """A proxy that the environment names, in both cases of its variables."""
    with noting() as server, pytest.MonkeyPatch.context() as patch:
        for name in PROXIES:
            patch.setenv(name, f"http://127.0.0.1:{server.server_port}")
            patch.setenv(name.lower(), f"http://127.0.0.1:{server.server_port}")
        patch.delenv("NO_PROXY", raising=False)
        patch.delenv("no_proxy", raising=False)
        patch.delenv("PREFECT_API_URL", raising=False)
        yield server


@pytest.fixture(scope="module")
def running(proxy, tmp_path_factory):
    """A site whose server runs."""
    site = Site.at(tmp_path_factory.mktemp("served") / "site")
    with embedded_server(site) as server:
        yield site, server.api_url


@pytest.fixture
def starts(monkeypatch):
    """The folders for which a server would be started."""
    folders = []

    def start(folder, port):
        folders.append((folder, port))
        return "http://127.0.0.1:9/api"

    monkeypatch.setattr("deployments.server.server._start", start)
    monkeypatch.setattr("deployments.server.server.WATCH_S", 1000.0)
    return folders


@pytest.mark.server
def test_a_server_is_its_sites_alone(running, starts, tmp_path):
    site, api_url = running
    assert known_address(site) == api_url
    (tmp_path / "link").symlink_to(site.root)
    linked = Site.at(tmp_path / "link")
    assert known_address(linked) == api_url, "a link to the site is the same site"
    with embedded_server(linked) as server:
        assert server.api_url == api_url

    shutil.copytree(site.root, tmp_path / "copy", ignore=shutil.ignore_patterns("prefect.db*"))
    copy = Site.at(tmp_path / "copy")
    assert known_address(copy) is None
    with embedded_server(copy, port=4711) as server:
        assert server.api_url != api_url
    assert starts == [(copy.state / "server", 4711)], "a copy starts its own, at the port that was asked for"

    other = Site.at(tmp_path / "other")
    make_secret(other.state / "server")
    shutil.copy(site.state / "server" / "address.json", other.state / "server")
    assert known_address(other) is None, "the server of another site"


@pytest.mark.server
def test_another_port_is_not_ignored(running):
    site, api_url = running
    port = urlsplit(api_url).port
    with (
        pytest.raises(InputError, match=rf"already runs at another port \({port}\)"),
        embedded_server(site, port=port + 1),
    ):
        pass
    with embedded_server(site, port=port) as server:
        assert server.api_url == api_url
    with (
        pytest.raises(InputError, match=rf"port is in use \({port}, by process \d+ .*server_process {site.state}"),
        embedded_server(Site.at(site.root.parent / "second"), port=port),
    ):
        pass


def test_nothing_but_a_nonce_is_sent_to_a_stranger(proxy, tmp_path, starts):
    site = Site.at(tmp_path)
    folder = site.state / "server"
    make_secret(folder)
    with noting() as stranger:
        address = f"http://127.0.0.1:{stranger.server_port}/api"
        (folder / "address.json").write_text(json.dumps({"api_url": address, "pid": os.getpid()}))
        assert known_address(site) is None
        with embedded_server(site):
            assert [place for place, _ in starts] == [folder]
    (method, path), *more = stranger.asked
    assert not more
    assert (method, urlsplit(path).path) == ("GET", "/gw-workflow/identity")
    assert list(parse_qs(urlsplit(path).query)) == ["nonce"]


def test_the_secret_is_its_owners_alone(tmp_path):
    make_secret(tmp_path / "server")
    first = (tmp_path / "server" / "secret").read_text()
    assert len(bytes.fromhex(first)) == 32
    assert stat.S_IMODE((tmp_path / "server").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "server" / "secret").stat().st_mode) == 0o600
    make_secret(tmp_path / "server")
    assert (tmp_path / "server" / "secret").read_text() == first
    make_secret(tmp_path / "another")
    assert (tmp_path / "another" / "secret").read_text() != first
    assert not is_own("http://127.0.0.1:9/api", tmp_path / "server", 1.0)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    def refuse(*_words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("deployments.server.identity.os.open", refuse)
    with pytest.raises(InputError, match=r"belongs to another user.*PREFECT_API_URL"):
        make_secret(tmp_path / "server")


@pytest.mark.server
def test_proxies_are_not_used_for_the_own_server(running, proxy):
    """Neither by urllib, nor by Prefect's client, nor by its websockets of events and logs."""
    site, api_url = running
    name = f"gw.test.{uuid.uuid4()}"

    @flow(log_prints=True)
    def small() -> int:
        print("a line for the log")
        return 1

    async def emit() -> None:
        async with get_events_client() as client:
            await client.emit(Event(event=name, resource={"prefect.resource.id": "gw.test"}))

    with server_for(site):
        assert small() == 1
        asyncio.run(emit())
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "127.0.0.1,localhost,::1"
    found = ask_server(api_url, "flow_runs/filter", {"limit": 1})
    assert found[0]["state_name"] == "Completed"
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example, localhost"}, "a.example,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "a,b,127.0.0.1,localhost,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_hosts_without_proxy_stay(before, after):
    assert without_proxy(before) == {"NO_PROXY": after, "no_proxy": after}


@pytest.mark.parametrize("who", ["server", "worker"])
def test_settings_for_other_servers_and_workers_exclude_this_machine_too(who, monkeypatch, capsys):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "a.example")
    assert run(["settings", who]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "export NO_PROXY=a.example,127.0.0.1,localhost,::1" in lines
    assert "export no_proxy=a.example,127.0.0.1,localhost,::1" in lines


@pytest.mark.parametrize("is_new", [True, False])
def test_slots_of_a_killed_server_are_free_when_the_next_one_starts(tmp_path, is_new):
    """Of a new database there are no tables; slots of deployments are freed with their runs."""
    address = f"sqlite+aiosqlite:///{tmp_path}/prefect.db"

    async def look(taken):
        with temporary_database_config(OneWriter(connection_url=address)):
            db = provide_database_interface()
            engine = await db.engine()
            async with engine.begin() as connection:
                await connection.run_sync(db.ConcurrencyLimitV2.__table__.create, checkfirst=True)
            async with db.session_context(begin_transaction=True) as session:
                session.add_all(db.ConcurrencyLimitV2(name=n, limit=2, active_slots=2) for n in taken)
            async with db.session_context() as session:
                found = await session.execute(sa.select(db.ConcurrencyLimitV2.name, db.ConcurrencyLimitV2.active_slots))
            await engine.dispose()
            return dict(found.all())

    if not is_new:
        asyncio.run(look(["gw-exposures", "deployment:1"]))
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: address}):
        asyncio.run(serve_app(asyncio.sleep(0)))
    assert asyncio.run(look([])) == ({} if is_new else {"gw-exposures": 0, "deployment:1": 2})


def two_writers(config):
    """Let two transactions read, wait for each other, and write; return the errors and the number of rows."""

    async def write(engine):
        async with await config.session(engine) as session, config.begin_transaction(session):
            await session.execute(sa.text("SELECT count(*) FROM numbers"))
            await asyncio.sleep(0.2)
            await session.execute(sa.text("INSERT INTO numbers VALUES (1)"))

    async def both():
        engine = await config.engine()
        async with engine.begin() as connection:
            await connection.execute(sa.text("CREATE TABLE numbers (number INTEGER)"))
        ends = await asyncio.gather(write(engine), write(engine), return_exceptions=True)
        async with engine.connect() as connection:
            rows = (await connection.execute(sa.text("SELECT count(*) FROM numbers"))).scalar_one()
        await engine.dispose()
        return [end for end in ends if end is not None], rows

    return asyncio.run(both())


def test_two_writers_wait_for_each_other(tmp_path):
    errors, rows = two_writers(OneWriter(connection_url=f"sqlite+aiosqlite:///{tmp_path}/ours.db"))
    assert (errors, rows) == ([], 2)
    errors, rows = two_writers(AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{tmp_path}/theirs.db"))
    assert rows == 1, "Prefect's own way has been mended: OneWriter is not needed any more"
    assert "database is locked" in str(errors[0])


def test_dead_letters_are_taken_up(tmp_path):
    letter = {"data": json.dumps({"event": "gw.night.registered", "id": "1"}), "attributes": {"id": "1"}}

    async def play():
        events = Topic.by_name("events").subscribe(dead_letter_queue_path=tmp_path)
        actions = Topic.by_name("actions").subscribe(dead_letter_queue_path=tmp_path)
        (tmp_path / "first").write_text(json.dumps(letter))
        (tmp_path / "second").write_text(json.dumps({"data": '{"automation": {}}', "attributes": {}}))
        (tmp_path / "third").write_text("no letter")
        taking = asyncio.create_task(take_up_letters(tmp_path, every_s=0.02))
        got = await asyncio.wait_for(events.get(), 5)
        assert (await asyncio.wait_for(actions.get(), 5)).data == b'{"automation": {}}'
        for _ in range(ATTEMPTS):  # its consumer fails every time
            await events.send_to_dead_letter_queue(got)
            await asyncio.sleep(0.1)
        taking.cancel()
        Topic.clear_all()
        return got

    got = asyncio.run(play())
    assert (json.loads(got.data), got.attributes, got.retry_count) == (json.loads(letter["data"]), {"id": "1"}, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["given-up"]
    assert len(list((tmp_path / "given-up").iterdir())) == 2

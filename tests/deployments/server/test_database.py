"""The server's database: made on PostgreSQL by one command, and kept small on PostgreSQL and SQLite."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing

import pytest

from deployments.cli import main
from deployments.server.database import (
    ADMINISTRATOR_VARIABLE,
    CHANGED_FRACTION,
    LARGE_TABLES,
    VARIABLE,
    address_in_use,
    create_database,
    parse_address,
    prepare_sqlite,
    size_of,
    vacuum,
)
from deployments.server.server_settings import server_environment
from imaging.errors import InputError, StorageError


def ask(address: str, question: str):
    import asyncpg

    async def answer():
        connection = await asyncpg.connect(address.replace("+asyncpg", ""))
        try:
            return await connection.fetch(question)
        finally:
            await connection.close()

    return asyncio.run(answer())


def fill(path, rows=3000):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (content TEXT)")
        connection.executemany("INSERT INTO events VALUES (?)", [("x" * 1000,)] * rows)
        connection.commit()
        connection.execute("DELETE FROM events")
        connection.commit()


def test_rows_that_are_removed_from_sqlite_give_their_room_back_while_others_read(tmp_path):
    path = tmp_path / "prefect.db"
    prepare_sqlite(path)
    fill(path)
    assert path.stat().st_size > 3e6, "removing rows alone gives nothing back"
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT * FROM events").fetchall()
        sizes = vacuum(f"sqlite+aiosqlite:///{path}")
    assert sizes.before > 3e6
    assert path.stat().st_size == sizes.after < 1e5
    assert size_of(f"sqlite+aiosqlite:///{path}") == sizes.after


def test_a_database_that_exists_is_not_touched_by_preparing(tmp_path):
    path = tmp_path / "prefect.db"
    fill(path, rows=1)
    before = path.read_bytes()
    prepare_sqlite(path)
    assert path.read_bytes() == before


def test_an_older_sqlite_is_turned_when_nobody_uses_it_and_left_when_somebody_does(tmp_path, monkeypatch):
    path = tmp_path / "prefect.db"
    fill(path)
    monkeypatch.setattr("deployments.server.database.CONNECT_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="stop the server"):
            vacuum(f"sqlite+aiosqlite:///{path}")
    assert vacuum(f"sqlite+aiosqlite:///{path}").after < 1e5
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prefect.db",
        "postgresql://gw@host/prefect",
        "postgresql+asyncpg://gw@host",
        "mysql://gw@host/prefect",
        "x://[",
    ],
)
def test_addresses_that_prefect_would_not_take(text):
    with pytest.raises(InputError, match=r"invalid address of a database.*postgresql\+asyncpg"):
        parse_address(text)


def test_a_password_is_never_shown(capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "postgresql+asyncpg://gw:hidden-one@127.0.0.1:9/prefect")
    monkeypatch.setenv(ADMINISTRATOR_VARIABLE, "postgresql://root:hidden-two@127.0.0.1:9/postgres")
    for word in ("create", "vacuum"):
        assert main.run(["database", word, "--json"]) == 3
    said = capsys.readouterr()
    assert "hidden" not in said.out + said.err
    assert "PostgreSQL cannot be reached" in said.err


def test_sqlite_needs_no_making(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match="an SQLite database is created by the server"):
        create_database(f"sqlite+aiosqlite:///{tmp_path}/prefect.db")
    assert main.run(["database", "create"]) == 1
    assert VARIABLE in capsys.readouterr().err
    assert main.run(["database", "vacuum", "--site", str(tmp_path)]) == 1
    assert "database missing" in capsys.readouterr().err


def test_the_server_of_a_site_uses_the_database_that_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert address_in_use(tmp_path) == f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    monkeypatch.setenv(VARIABLE, "postgresql+asyncpg://gw@host/prefect")
    assert server_environment(tmp_path)[VARIABLE] == "postgresql+asyncpg://gw@host/prefect"


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--address", "postgresql+asyncpg://gw:hidden@host/prefect"],
        ["create", "--address", "postgresql+asyncpg://gw@host/prefect", "--administrator", "postgresql://a:hidden@h/p"],
        ["vacuum", "--address", "postgresql+asyncpg://gw:hidden@host/prefect"],
    ],
)
def test_a_password_in_the_list_of_processes_is_refused(words, capsys, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main.run(["database", *words]) == 1
    said = capsys.readouterr().err
    assert "list of processes" in said
    assert "hidden" not in said


@pytest.mark.optional
@pytest.mark.server
def test_one_command_makes_what_the_server_needs_and_may_be_repeated(
    postgresql, postgresql_database, capsys, monkeypatch
):
    monkeypatch.setenv(VARIABLE, postgresql_database)
    extensions = {row["extname"] for row in ask(postgresql_database, "SELECT extname FROM pg_extension")}
    assert "pg_trgm" in extensions
    (owner,) = ask(
        postgresql_database, "SELECT pg_get_userbyid(datdba) AS name FROM pg_database WHERE datname='nights'"
    )
    assert owner["name"] == "gw"
    rows = ask(postgresql_database, "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r'")
    options = {row["relname"]: row["reloptions"] or [] for row in rows}
    assert set(LARGE_TABLES) <= set(options)
    assert all(f"autovacuum_vacuum_scale_factor={CHANGED_FRACTION}" in options[table] for table in LARGE_TABLES)

    words = ["--administrator", postgresql, "--json"]
    assert main.run(["database", "create", *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not any("created" in what and "role" in what for what in said["done"]), "the role is there already"
    assert "secret" not in said["database"]


@pytest.mark.optional
@pytest.mark.server
def test_vacuuming_postgresql_counts_the_rows_anew(postgresql_database, capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, postgresql_database)
    ask(
        postgresql_database,
        "CREATE TABLE IF NOT EXISTS filler AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)",
    )
    ask(postgresql_database, "DELETE FROM filler")
    before = size_of(postgresql_database)
    assert main.run(["database", "vacuum", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["freed_mb"] > 2.0, "the rows at the end of a table are given back"
    assert size_of(postgresql_database) < before
    (row,) = ask(postgresql_database, "SELECT reltuples FROM pg_class WHERE relname = 'filler'")
    assert row["reltuples"] == 0
    ask(postgresql_database, "DROP TABLE filler")


@pytest.mark.optional
def test_an_administrator_who_may_not_or_is_not_known_is_told(postgresql, postgresql_database):
    address = postgresql_database.replace("/nights", "/other").replace("//gw:", "//somebody:")
    unknown = postgresql.replace("//prefect@", "//nobody@")
    with pytest.raises(StorageError, match=r"cannot be reached.*--administrator"):
        create_database(address, unknown)
    powerless = postgresql_database.replace("+asyncpg", "")
    with pytest.raises(StorageError, match=r"PostgreSQL refuses.*give an administrator"):
        create_database(address, powerless)


def test_the_variable_is_the_one_that_prefect_reads():
    import prefect.settings

    assert hasattr(prefect.settings, VARIABLE)
    assert VARIABLE not in os.environ or parse_address(os.environ[VARIABLE])

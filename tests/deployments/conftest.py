"""Both kinds of databases of the server, each as an operator would make it."""

from collections.abc import Iterator

import pytest

from bench.postgresql import own_postgresql
from deployments.server.database import VARIABLE, create_database


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Return the address of an administrator of a PostgreSQL that is ended with the tests."""
    with own_postgresql() as address:
        if address is None:
            pytest.skip("PostgreSQL is not installed, or has no user to run as (Debian: apt-get install postgresql)")
        yield address.replace("+asyncpg", "")


@pytest.fixture(scope="session")
def postgresql_database(postgresql) -> str:
    """Return the address of a database that was made for the server by the project's own command."""
    place = postgresql.partition("@")[2].partition("/")[0]
    address = f"postgresql+asyncpg://gw:it%27s%20%22secret%22@{place}/nights"
    create_database(address, postgresql)
    return address


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.optional)])
def each_database(request, monkeypatch) -> str:
    """Let servers that the test starts use each kind of database, one after the other; return its name."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv(VARIABLE, request.getfixturevalue("postgresql_database"))
    return request.param

"""The application of the embedded server: Prefect's, with one writer on SQLite, dead letters and lost slots taken up.

On SQLite Prefect begins most transactions as ``DEFERRED``: they read first, and ask for the lock when they write. If
another connection has written in between, SQLite refuses at once (``SQLITE_BUSY_SNAPSHOT``, no timeout applies), the
API answers 503, and a consumer of events drops its event after three such refusals into the folder of dead letters.
With ``IMMEDIATE`` a transaction takes the lock when it begins, and waits for it if need be.

Prefect keeps the leases of the slots of concurrency limits in the server's memory, and the number of slots taken in
the database. After a server that was killed nobody would release them, and runs would wait for ever.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from prefect.logging import get_logger
from prefect.server.api import background_workers
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import provide_database_interface, temporary_database_config
from prefect.server.utilities.messaging.memory import MemoryMessage, Topic
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME
from sqlalchemy.exc import SQLAlchemyError

from deployments.server.identity import PATH, proof

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

DEAD_LETTERS_S = 30.0
"""Seconds between two looks for dead letters."""

LOOK_S = 1.0
"""Seconds between two looks of Prefect's background worker for services that are due, 0.25 by default: a third of what
a server without work costs. The shortest interval of a service is 5 s."""

ATTEMPTS = 5
"""Number of times that a dead letter is taken up; then it stays in the folder ``given-up``."""


class OneWriter(AioSqliteConfiguration):
    """SQLite whose transactions take the write lock when they begin."""

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: "AsyncSession",
        with_for_update: bool = False,  # noqa: ARG002 (Prefect's signature)
    ) -> "AsyncGenerator[AsyncSessionTransaction, None]":
        """Begin an ``IMMEDIATE`` transaction."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def make_app(folder: Path) -> FastAPI:
    """Return Prefect's application that also proves whose server it is.

    Parameters
    ----------
    folder
        Folder of the server.
    """
    every = timedelta(seconds=LOOK_S)
    background_workers.Worker = partial(  # type: ignore[misc,assignment]  # Prefect has no setting for it
        background_workers.Worker, scheduling_resolution=every, minimum_check_interval=every
    )
    app = create_app(final=True)

    def identity(request: Request, nonce: str) -> dict[str, str]:
        _, port = request.scope["server"]
        return {"proof": proof(folder, nonce, port)}

    app.router.routes.insert(0, APIRoute(PATH, identity))  # ahead of the pages, which answer every path
    return app


async def serve_app(serving: Awaitable[None]) -> None:
    """Run the server of an application until it ends: one writer on SQLite, lost slots free, dead letters taken up."""
    letters = asyncio.create_task(take_up_letters(PREFECT_HOME.value() / "dlq"))
    address = PREFECT_API_DATABASE_CONNECTION_URL.value()
    config = OneWriter(connection_url=address) if address.startswith("sqlite") else None  # None: Prefect's own
    try:
        with temporary_database_config(config):
            await free_slots()
            await serving
    finally:
        letters.cancel()


async def free_slots() -> None:
    """Free the slots of the global concurrency limits; those of deployments are freed when their runs end."""
    db = provide_database_interface()
    limits = db.ConcurrencyLimitV2
    ours = sa.update(limits).where(limits.name.not_like("deployment:%")).values(active_slots=0)
    with suppress(SQLAlchemyError):  # a new database has no tables yet
        async with db.session_context(begin_transaction=True) as session:
            await session.execute(ours)


async def take_up_letters(folder: Path, every_s: float = DEAD_LETTERS_S) -> None:
    """Give dead letters to their consumers again, for ever.

    Parameters
    ----------
    folder
        Folder with one file per letter.
    every_s
        Seconds between two looks.
    """
    logger, attempts = get_logger(__name__), Counter[str]()
    while True:
        await asyncio.sleep(every_s)
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if not path.is_file():
                continue
            try:
                await _take_up(path, attempts)
            except Exception as error:  # noqa: BLE001 (an unreadable letter must not stop the others)
                logger.warning("A dead letter cannot be read: %s: %s", path, error)
                _give_up(path)


async def _take_up(path: Path, attempts: Counter[str]) -> None:
    letter = json.loads(path.read_bytes())
    data = letter["data"]
    attempts[data] += 1
    if attempts[data] > ATTEMPTS:
        _give_up(path)
        return
    # Messages of automations' actions name their automation; all others are events.
    topic = "actions" if "automation" in json.loads(data) else "events"
    path.unlink()
    await Topic.by_name(topic).publish(MemoryMessage(data.encode(), letter["attributes"]))


def _give_up(path: Path) -> None:
    given_up = path.parent / "given-up"
    given_up.mkdir(exist_ok=True)
    path.rename(given_up / path.name)

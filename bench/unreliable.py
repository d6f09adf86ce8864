"""A proxy for a Prefect server that loses requests and responses, as a server with a stalled disk does."""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, get_args

Fault = Literal["answer lost", "unavailable", "broken"]
"""Fault of a request: it is processed but its response is lost; it is rejected with 503, or with 500."""

WAYS: tuple[Fault, ...] = get_args(Fault)

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
STATUS = {"unavailable": "503 Service Unavailable", "broken": "500 Internal Server Error"}


@dataclass
class Faults:
    """Selects the requests that fail, and counts them.

    Attributes
    ----------
    decide
        Function of a request's kind (method and path without identifiers) and its number, that returns the fault or
        None.
    """

    decide: Callable[[str, int], Fault | None]
    seen: Counter[str] = field(default_factory=Counter)
    met: Counter[tuple[str, Fault]] = field(default_factory=Counter)

    def of(self, line: str) -> Fault | None:
        """Return the fault of a request, given its request line."""
        kind = UUID.sub("*", " ".join(line.split()[:2]))
        self.seen[kind] += 1
        fault = self.decide(kind, self.seen[kind])
        if fault:
            self.met[kind, fault] += 1
        return fault


@contextmanager
def unreliable(upstream_port: int, faults: Faults) -> Iterator[int]:
    """Yield the port of a proxy for a server of this machine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(lambda r, w: _serve(r, w, upstream_port, faults), "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _serve(client: asyncio.StreamReader, back: asyncio.StreamWriter, upstream_port: int, faults: Faults) -> None:
    """Forward one request and its response, then close, so that every request uses a new connection."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        try:
            head = await client.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                await _pass_socket(head, client, back, upstream_port)
                return
            length = re.search(rb"content-length: (\d+)", head, re.I)
            body = await client.readexactly(int(length[1])) if length else b""
            fault = faults.of(head.split(b"\r\n", 1)[0].decode())
            if fault is not None and fault in STATUS:
                answer = f"HTTP/1.1 {STATUS[fault]}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            else:
                answer = await _ask(head, body, upstream_port)
            if fault != "answer lost":
                back.write(answer)
                await back.drain()
        finally:
            back.close()


async def _ask(head: bytes, body: bytes, upstream_port: int) -> bytes:
    head = re.sub(rb"\r\nconnection: [^\r]*", b"", head, flags=re.I)
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream_port)
    try:
        writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


async def _pass_socket(
    head: bytes, client: asyncio.StreamReader, back: asyncio.StreamWriter, upstream_port: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream_port)
    writer.write(head)

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        finally:
            target.close()

    await asyncio.gather(pipe(client, writer), pipe(reader, back))

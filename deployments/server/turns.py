"""Turns of expensive requests: a few are answered at once, and those of our commands need not wait for a crowd.

Lists, counts and histories of runs cost the server's process tens of milliseconds each. When hundreds of clients ask
for them at once, all would be worked on side by side, and everything else, such as health, states and heartbeats of
runs, would wait behind them. Here they wait outside. What carries the header :data:`AHEAD`, as the questions of
``status`` and of the watcher do, goes first, in every other turn at most, so that nobody waits for ever.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

EXPENSIVE = re.compile(r"/api/.*(filter|count|history|paginate)")
"""Paths of requests that search."""

AHEAD = "x-gw-workflow-ahead"
"""Header of requests that go first."""

AT_ONCE = 2
"""Expensive requests that are answered at once."""


class RequestTurns:
    """Gives turns to those who ask, in the order of their coming but for those who go first.

    Parameters
    ----------
    at_once
        Number of turns at a time.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._first: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()
        self._was_first = False

    @asynccontextmanager
    async def turn(self, *, ahead: bool = False) -> AsyncIterator[None]:
        """Wait for a turn and hold it inside the ``with`` block.

        Parameters
        ----------
        ahead
            Whether to go first.
        """
        if self._free:
            self._free -= 1
        else:
            coming: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._first if ahead else self._others).append(coming)
            try:
                await coming
            except asyncio.CancelledError:
                if coming.done() and not coming.cancelled():
                    self._pass_on()  # the turn came at the moment of the end
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to the next one who still waits for it."""
        while self._first or self._others:
            self._was_first = bool(self._first) and not (self._was_first and self._others)
            coming = (self._first if self._was_first else self._others).popleft()
            if not coming.done():
                coming.set_result(None)
                return
        self._free += 1

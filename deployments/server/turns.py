"""Turns of expensive requests: one of a crowd is answered at a time, and those of our commands need not wait for it.

Lists, counts and histories of runs cost the server's process tens of milliseconds each. When hundreds of clients ask
for them at once, all would be worked on side by side, and everything else, such as health, states and heartbeats of
runs, would wait behind them. Here they wait outside, in the order of their coming. What carries the header
:data:`AHEAD`, as the questions of ``status`` and of the watcher do, has turns of its own.
"""

import asyncio
import re

EXPENSIVE = re.compile(r"/api/.*(filter|count|history|paginate)")
"""Paths of requests that search."""

AHEAD = "x-gw-workflow-ahead"
"""Header of requests that do not wait for those without it."""

AT_ONCE = 1
"""Expensive requests with, and without, the header that are answered at once."""


class RequestTurns:
    """Gives turns to expensive requests, to those with and those without the header independently."""

    def __init__(self) -> None:
        self._turns = {ahead: asyncio.Semaphore(AT_ONCE) for ahead in (False, True)}

    def turn(self, *, ahead: bool = False) -> asyncio.Semaphore:
        """Return the turn to wait for and to hold (``async with``).

        Parameters
        ----------
        ahead
            Whether the request carries the header.
        """
        return self._turns[ahead]

"""Loops of a serving process that outlive an outage of the server.

Prefect's runner asks for runs to start, and for runs to cancel, in loops that end for good after three failures in
succession: then the runner ends, or cancels nothing any more. No setting changes that (``backoff`` of
``critical_service_loop`` is not passed on), and a restart of the server takes longer.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from prefect._internal import observers
from prefect.logging import get_logger
from prefect.runner import _scheduled_run_poller
from prefect.utilities.services import critical_service_loop


async def lasting_loop(workload: Callable[..., Coroutine[Any, Any, Any]], interval: float, **options: Any) -> None:  # noqa: ANN401
    """Run Prefect's loop; begin again when it gives up because the server does not answer.

    Parameters
    ----------
    workload
        What is called.
    interval
        Seconds between two calls.
    options
        Passed to ``critical_service_loop``.

    Raises
    ------
    Exception
        If the workload fails for another reason than a server that is out of reach.
    """
    while True:
        try:
            return await critical_service_loop(workload, interval, printer=lambda *_: None, **options)
        except RuntimeError as error:
            if "threshold" not in str(error):
                raise
            get_logger(__name__).warning("The server does not answer; asking again every %g s", interval)
            await asyncio.sleep(interval)


def keep_polling() -> None:
    """Make the loops of runners in this process last."""
    for module in (observers, _scheduled_run_poller):
        module.critical_service_loop = lasting_loop  # type: ignore[attr-defined]

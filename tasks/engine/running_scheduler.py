"""A Dask scheduler that runs on its own: whether it answers, and the sentence if it does not."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from imaging.errors import GWWorkflowError

if TYPE_CHECKING:
    from distributed import Security

ANSWER_S = 5.0
"""Seconds within which a running scheduler must answer at first."""

REMEDY = (
    "see that it runs (gw-workflow dask-scheduler) and that this machine reaches it, then repeat the command; "
    "finished steps are kept"
)


class SchedulerError(GWWorkflowError):
    """A running scheduler does not answer, so that no step can run; the run ends."""


class LostSchedulerError(Exception):
    """The connection to the scheduler was lost while a step ran; the step is submitted again."""


def require_answer(address: str, security: "Security | None") -> None:
    """Require that a scheduler answers.

    ``distributed.Client`` limits the time of the connection, but not of the greeting that follows: it waits without end
    for a port that accepts and says nothing.

    Parameters
    ----------
    address
        Address of the scheduler, such as ``tls://10.0.0.1:8786``.
    security
        Its certificate; None without.

    Raises
    ------
    SchedulerError
        If it does not answer in time, or not as a scheduler does.
    """
    with ThreadPoolExecutor(1) as thread:  # the caller's thread may have an event loop
        try:
            thread.submit(asyncio.run, _greet(address, security)).result()
        except Exception as error:
            where = f"{address}, {_why(error)}, tried for {ANSWER_S:g} s"
            raise SchedulerError("the Dask scheduler does not answer", value=where, remedy=REMEDY) from error


async def _greet(address: str, security: "Security | None") -> None:
    from distributed.comm import connect

    options = security.get_connection_args("client") if security else {}
    comm = await asyncio.wait_for(connect(address, timeout=ANSWER_S, **options), ANSWER_S)
    comm.abort()


def _why(error: BaseException) -> str:
    """Return what the first cause of an error says."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())
    return "no answer" if not said or said.startswith("Timed out") else said

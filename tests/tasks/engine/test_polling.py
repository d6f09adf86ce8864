"""Loops of a serving process outlive an outage of the server."""

import asyncio

import httpx
import pytest

from tasks.engine.polling import keep_polling, lasting_loop


def calls_until(errors: list[Exception]) -> int:
    """Run the loop with a workload that raises these errors in turn; return the number of calls."""
    calls = 0

    async def workload() -> None:
        nonlocal calls
        calls += 1
        raise errors[calls - 1]

    with pytest.raises(type(errors[-1])):
        asyncio.run(lasting_loop(workload=workload, interval=0.001, jitter_range=0.3))
    return calls


def test_a_loop_outlives_any_number_of_refused_connections():
    assert calls_until([httpx.ConnectError("no server")] * 20 + [KeyError()]) == 21


def test_an_error_of_another_kind_ends_it():
    assert calls_until([RuntimeError("a defect")]) == 1


def test_runners_use_it():
    from prefect._internal import observers
    from prefect.runner import _scheduled_run_poller

    keep_polling()
    assert observers.critical_service_loop is lasting_loop
    assert _scheduled_run_poller.critical_service_loop is lasting_loop

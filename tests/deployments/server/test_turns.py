"""Expensive requests wait for their turns; others do not, and our commands go ahead of a crowd."""

import asyncio
import base64

import httpx
import pytest

from deployments.server.gate import Gate
from deployments.server.identity import auth_string, make_secret
from deployments.server.turns import AT_ONCE, EXPENSIVE, RequestTurns


@pytest.mark.parametrize("path", ["/api/flow_runs/filter", "/api/flow_runs/count", "/api/events/filter/next"])
def test_what_searches_waits(path):
    assert EXPENSIVE.match(path)


@pytest.mark.parametrize(
    "path",
    ["/api/health", "/api/flow_runs/4f/set_state", "/api/task_runs/", "/gw-workflow/identity", "/api/flow_runs/4f"],
)
def test_what_runs_need_does_not_wait(path):
    assert not EXPENSIVE.match(path)


def test_a_command_does_not_wait_for_a_crowd():
    async def crowd():
        turns, order, most, now = RequestTurns(), [], 0, 0

        async def ask(client, times, *, ahead=False):
            nonlocal most, now
            for _ in range(times):
                async with turns.turn(ahead=ahead):
                    now += 1
                    most = max(most, now)
                    await asyncio.sleep(0)
                    order.append(client)
                    now -= 1

        asking = [asyncio.create_task(ask("crowd", 10)) for _ in range(200)]
        while len(order) < 400:
            await asyncio.sleep(0)
        before = len(order)
        await ask("status", 1, ahead=True)
        place = order.index("status") - before
        asking += [asyncio.create_task(ask("watcher", 20, ahead=True)) for _ in range(10)]
        await asyncio.gather(*asking)
        return place, most, len(order)

    place, most, n_answered = asyncio.run(crowd())
    assert place <= 2 * AT_ONCE, "behind the one that was served already, not behind 200"
    assert most == 2 * AT_ONCE
    assert n_answered == 2000 + 1 + 200, "everybody is answered"


def test_who_gives_up_leaves_the_turn_to_the_next():
    async def leave():
        turns, done = RequestTurns(), []

        async def ask(name):
            async with turns.turn():
                done.append(name)
                await asyncio.sleep(0)

        async with turns.turn():
            waiting = {name: asyncio.create_task(ask(name)) for name in "abc"}
            await asyncio.sleep(0)
            waiting["a"].cancel()
        waiting["b"].cancel()  # its turn has come, but it has not run yet
        await asyncio.wait_for(waiting["c"], 30)
        await asyncio.wait_for(ask("last"), 30)
        return done

    assert asyncio.run(leave()) == ["c", "last"]


def test_health_is_answered_while_every_turn_is_taken(tmp_path):
    folder = tmp_path / "server"
    make_secret(folder)
    held = asyncio.Event()

    async def slow(scope, receive, send):
        if scope["path"].endswith("filter"):
            await held.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"true"})

    async def ask():
        gate = Gate(slow, folder)
        own = {"Authorization": f"Basic {base64.b64encode(auth_string(folder).encode()).decode()}"}
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4711", headers=own) as client:
            waiting = [asyncio.create_task(client.post("/api/flow_runs/filter")) for _ in range(50)]
            await asyncio.sleep(0.1)
            for path in ("/api/health", "/api/flow_runs/4f"):
                assert (await asyncio.wait_for(client.get(path), 30)).status_code == 200
            assert not any(task.done() for task in waiting)
            held.set()
            answers = await asyncio.wait_for(asyncio.gather(*waiting), 60)
            assert {answer.status_code for answer in answers} == {200}

    asyncio.run(ask())

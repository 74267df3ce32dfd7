"""When a server should be sent requests, which it cannot answer, and how it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping

import httpx2
import pytest
import uvicorn

from pipeline.api.routes.health import KeptHealth
from pipeline.api.server.app import ROUTERS
from pipeline.api.server.main import Server, until_stopped
from pipeline.api.server.status import KNOWN_MAX_S, ServerStatus, asking_owners
from pipeline.local.ports import is_free
from tests.support import ports
from tests.support.api.routes import ASKS_OWNER

WELL: Mapping[str, str | None] = {
    "kafka": None,
    "clickhouse": None,
    "worker": None,
    "mail": None,
    "sink": None,
}
ROUTES = list(asking_owners(ROUTERS))


async def _after(problems: Mapping[str, str | None]) -> ServerStatus:
    """Return the status of a server that has found this of its parts."""

    class Found(KeptHealth):
        """What was found."""

        def __init__(self) -> None: ...

        async def problems(self) -> Mapping[str, str | None]:
            return problems

    status = ServerStatus()
    looking = asyncio.create_task(status.look(Found(), ROUTES))
    await asyncio.sleep(0)
    looking.cancel()
    return status


@pytest.mark.parametrize(("away", "is_ready"), [((), True), ((2,), True), ((1, 2), False)])
async def test_a_server_is_ready_while_any_shard_answers(away: tuple[int, ...], is_ready: bool) -> None:
    shards = {f"clickhouse shard {n} of 2": "does not answer" if n in away else None for n in (1, 2)}
    others = {name: problem for name, problem in WELL.items() if name != "clickhouse"}
    status = await _after({**others, **shards})
    found, words = status.role.ready()
    assert found == is_ready
    assert [words[name] == "ok" for name in shards] == [n not in away for n in (1, 2)]


def test_the_routes_that_ask_an_owner_are_known_by_what_they_depend_on() -> None:
    asks_nobody = {"/me/billing/pin/{pin}"}
    others = {"POST /webhooks/razorpay", "POST /operator/settle/{payment_id}"}
    theirs = {
        f"{method} {path}"
        for path, tries in ASKS_OWNER.items()
        for method, *_ in tries
        if path not in asks_nobody
    }
    assert theirs | others <= set(ROUTES)
    assert not {"GET /me/usage", "GET /me/activity", "GET /v1/rankings", "GET /healthz"} & set(ROUTES)


async def test_a_server_that_has_looked_at_nothing_yet_is_not_ready() -> None:
    assert ServerStatus().role.ready()[0] is False


async def test_it_is_ready_and_answers_everything_where_all_is_well() -> None:
    is_ready, said = (await _after(WELL)).role.ready()
    assert is_ready
    assert said == {**dict.fromkeys(WELL, "ok"), "routes_away": []}


@pytest.mark.parametrize("part", ["worker", "kafka"])
async def test_without_a_worker_it_stays_ready_and_names_the_routes_it_cannot_answer(part: str) -> None:
    status = await _after({**WELL, part: "no answer for partition 3"})
    is_ready, said = status.role.ready()
    assert is_ready and said[part] == "no answer for partition 3"
    assert said["routes_away"] == ROUTES
    assert status.role.health()[0] is False


@pytest.mark.parametrize("part", ["mail", "sink"])
async def test_a_part_that_answers_nobody_takes_no_route_away(part: str) -> None:
    is_ready, said = (await _after({**WELL, part: "joining the group"})).role.ready()
    assert is_ready and said["routes_away"] == []


async def test_without_clickhouse_it_is_not_ready() -> None:
    is_ready, said = (await _after({**WELL, "clickhouse": "does not answer in time"})).role.ready()
    assert not is_ready and said["clickhouse"] == "does not answer in time"


async def test_what_was_found_long_ago_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    status = await _after(WELL)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + KNOWN_MAX_S + 1)
    for is_good, said in (status.role.ready(), status.role.health()):
        assert not is_good
        assert str(said["server"]).startswith("nothing is known of its parts for 11 s")


async def _hello(_scope: object, receive: object, send: object) -> None:  # noqa: ARG001
    """Answer every request."""
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"here"})  # type: ignore[operator]


async def test_told_to_stop_it_is_not_ready_at_once_and_answers_for_a_while() -> None:
    status, port = await _after(WELL), ports.free()
    config = uvicorn.Config(_hello, host="127.0.0.1", port=port, log_config=None, lifespan="off")
    server = Server(config)
    running = asyncio.create_task(until_stopped(server, [], status, 0.5))
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client, asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
        assert status.role.ready()[0]
        os.kill(os.getpid(), signal.SIGTERM)
        while status.role.ready()[0]:
            await asyncio.sleep(0)
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "here"
        assert await running == 0
    assert is_free(port)


async def test_a_second_signal_ends_the_while() -> None:
    status, port = await _after(WELL), ports.free()
    server = Server(uvicorn.Config(_hello, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    running = asyncio.create_task(until_stopped(server, [], status, 300))
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
        assert await running == 0

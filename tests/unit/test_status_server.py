"""What a role says of itself on a port of its own, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pipeline import exposition, status_server
from pipeline.exposition import MetricsText
from pipeline.kafka.attempts import ClientCancelledError
from pipeline.status_server import CONNECTIONS_MAX, STILL_MAX_S, RoleStatus, run_until_stopped


@contextmanager
def _served(status: RoleStatus) -> Iterator[int]:
    server = status_server.serve("127.0.0.1", 0, status, MetricsText(()))
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def port() -> Iterator[int]:
    with _served(RoleStatus(lambda: {"worker": None})) as served:
        yield served


def _ask(port: int, path: str) -> tuple[int, Any]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refused:
        return refused.code, json.load(refused)


def test_a_part_that_is_not_well_is_named_and_does_not_make_it_dead() -> None:
    problems: dict[str, str | None] = {"worker": None}
    with _served(RoleStatus(lambda: problems)) as port:
        for path in ("/healthz", "/readyz"):
            assert _ask(port, path) == (200, {"worker": "ok"})
        problems["worker"] = "joining the group"
        for path in ("/healthz", "/readyz"):
            assert _ask(port, path) == (503, {"worker": "joining the group"})
        assert _ask(port, "/livez") == (200, {"process": "ok"})


def test_who_is_told_to_stop_is_not_ready_and_alive_to_the_end() -> None:
    status = RoleStatus(lambda: {"worker": None})
    with _served(status) as port:
        status.stop()
        assert _ask(port, "/readyz") == (503, {"process": "stopping"})
        assert _ask(port, "/livez") == (200, {"process": "ok"})
        assert _ask(port, "/healthz") == (200, {"worker": "ok"})


def test_a_loop_that_stands_still_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    status = RoleStatus(lambda: {"worker": None})
    real = time.monotonic
    with _served(status) as port:
        monkeypatch.setattr(time, "monotonic", lambda: real() + STILL_MAX_S + 1)
        code, said = _ask(port, "/livez")
        assert code == 503 and said["process"].startswith("its event loop has stood still for 31 s")


def test_silent_and_half_headed_connections_block_nobody(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * CONNECTIONS_MAX)]
    for each in silent[::2]:
        each.sendall(b"GET /healthz HTT")
    with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        assert json.load(answer) == {"worker": "ok"}
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"python_info" in answer.read()
    for each in silent:
        each.close()


def test_a_silent_connection_gives_its_place_to_a_later_one(port: int) -> None:
    first = socket.create_connection(("127.0.0.1", port))
    first.settimeout(5)
    others = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS_MAX)]
    assert first.recv(1) == b""
    for each in (first, *others):
        each.close()


def test_the_metrics_are_made_once_a_second_however_many_ask(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def make(_: object) -> bytes:
        made.append(time.monotonic())
        time.sleep(0.05)  # who asks meanwhile waits, and makes none
        return b"made %d times\n" % len(made)

    def read(_: int = 0) -> bytes:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: bytes = answer.read()
            return text

    monkeypatch.setattr(exposition, "generate_latest", make)
    with ThreadPoolExecutor(8) as asking:
        assert set(asking.map(read, range(16))) == {b"made 1 times\n"}
    while read() != b"made 2 times\n":
        time.sleep(0.02)
    assert made[1] - made[0] > (exposition.TEXT_KEPT_MS - 1) / 1000  # its clock is of whole ms


async def test_a_signal_ends_a_role_well() -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    status = RoleStatus(lambda: {"sink": None})
    async with asyncio.timeout(10):
        await run_until_stopped(work(), status)
    assert status.ready() == (False, {"process": "stopping"})


async def test_a_cancellation_that_nobody_asked_for_is_an_error() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ClientCancelledError):
        await run_until_stopped(work(), RoleStatus(lambda: {"sink": None}))

"""The status server of a worker, over real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from pipeline import status_server
from pipeline.status_server import CONNECTIONS_MAX


@pytest.fixture
def port() -> Iterator[int]:
    server = status_server.serve("127.0.0.1", 0, lambda: {"worker": None})
    yield server.server_port
    server.shutdown()
    server.server_close()


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

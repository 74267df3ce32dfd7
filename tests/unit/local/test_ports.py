"""Ports: free or taken."""

from __future__ import annotations

import socket

import pytest

from pipeline.local import ports
from pipeline.local.errors import LocalError


def test_a_port_is_taken_while_someone_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_free_port_is_free() -> None:
    assert ports.is_free(ports.free())


def test_a_host_of_someone_else_is_a_clear_error() -> None:
    with pytest.raises(LocalError, match=r"192\.0\.2\.1"):
        ports.is_free(0, "192.0.2.1")

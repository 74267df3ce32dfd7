"""A webhook on its way to a real https receiver: what each answer means, and where no connection is made."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from standardwebhooks import Webhook

from pipeline.accounts.notices import WebhookMessage
from pipeline.accounts.webhooks import is_public
from pipeline.webhook.protocol import Attempted
from pipeline.webhook.sending import WebhookClient, resolve_host
from pipeline.webhook.signing import secret_of, secret_text
from tests.support.webhooks import HOST, MESSAGE, SERVER_SECRET, Receiver, receiver


def _to(port: int, host: str = HOST) -> WebhookMessage:
    return msgspec.structs.replace(MESSAGE, url=f"https://{host}:{port}/notices?from=metering")


@asynccontextmanager
async def _client(running: Receiver, **more: Any) -> AsyncIterator[WebhookClient]:
    """A client that trusts the receiver, and finds it here."""
    options: dict[str, Any] = {"allowed": lambda _: True, "resolve": running.resolve, "tls": running.tls()}
    client = WebhookClient(SERVER_SECRET, lambda: int(time.time()), **{**options, **more})
    try:
        yield client
    finally:
        await client.close()


async def test_what_arrives_is_verified_by_the_library_of_the_specification(tmp_path: Path) -> None:
    async with receiver(tmp_path) as running, _client(running) as client:
        assert await client.send(_to(running.port)) == (Attempted.TAKEN, "200")
    [got] = running.got
    assert got.line == "POST /notices?from=metering HTTP/1.1"
    assert got.headers["host"] == f"{HOST}:{running.port}"
    assert (got.headers["content-type"], got.headers["webhook-id"]) == ("application/json", MESSAGE.id)
    secret = secret_text(secret_of(SERVER_SECRET, MESSAGE.org, MESSAGE.nonce))
    assert Webhook(secret).verify(got.body, got.headers)["type"] == "budget.reached"


async def test_each_answer_means_what_it_says_and_a_redirection_is_not_followed(tmp_path: Path) -> None:
    async with receiver(tmp_path) as running, _client(running, limit_s=0.5) as client:
        running.answers = [204, 301, 307, 400, 410, 500, 0]
        found = [await client.send(_to(running.port)) for _ in range(7)]
    taken, not_taken = Attempted.TAKEN, Attempted.NOT_TAKEN
    assert found == [
        (taken, "204"),
        (not_taken, "301"),
        (not_taken, "307"),
        (not_taken, "400"),
        (Attempted.GONE, "410"),
        (not_taken, "500"),
        (not_taken, "TimeoutError"),
    ]
    assert len(running.got) == 7
    assert {got.line for got in running.got} == {"POST /notices?from=metering HTTP/1.1"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", HOST, "2130706433", "0x7f.1"])
async def test_nothing_is_connected_to_in_our_own_network_whatever_it_is_called(
    tmp_path: Path, host: str
) -> None:
    """The product's own rule, with the receiver here as the service inside that an owner would like to reach."""
    async with receiver(tmp_path) as running:
        resolve = running.resolve if host == HOST else resolve_host
        async with _client(running, allowed=is_public, resolve=resolve) as client:
            attempted, word = await client.send(_to(running.port, host))
    assert (attempted, running.got) == (Attempted.NOT_TAKEN, [])
    assert word == "ForbiddenAddressError"


async def test_a_name_that_stands_for_another_address_the_next_moment_changes_nothing(
    tmp_path: Path,
) -> None:
    """DNS rebinding: the name is looked up once, and what was looked at is what is connected to."""
    looked_up: list[str] = []

    async def rebinding(host: str, _port: int) -> Sequence[str]:
        looked_up.append(host)
        # The receiver, taken for a public address; then another one, which nobody here listens on.
        return ["127.0.0.1"] if len(looked_up) == 1 else ["127.0.0.2"]

    async with receiver(tmp_path) as running:
        allowed = {ip_address("127.0.0.1")}
        async with _client(running, allowed=allowed.__contains__, resolve=rebinding) as client:
            assert (await client.send(_to(running.port)))[0] is Attempted.TAKEN
            assert looked_up == [HOST]
            # Each try looks it up anew: no connection of an earlier one is used again.
            assert await client.send(_to(running.port)) == (Attempted.NOT_TAKEN, "ForbiddenAddressError")
    assert len(running.got) == 1


async def test_of_several_addresses_those_that_are_allowed_are_tried_in_turn(tmp_path: Path) -> None:
    async def several(_host: str, _port: int) -> Sequence[str]:
        return ["10.255.255.1", "fe80::1%lo", "127.0.0.3", "127.0.0.1"]

    async with receiver(tmp_path) as running:
        allowed = lambda address: str(address).startswith("127.")  # noqa: E731
        async with _client(running, allowed=allowed, resolve=several) as client:
            assert (await client.send(_to(running.port)))[0] is Attempted.TAKEN


async def test_a_certificate_of_another_name_or_authority_is_not_talked_to(tmp_path: Path) -> None:
    async with receiver(tmp_path) as running:
        async with _client(running) as client:
            found = await client.send(_to(running.port, "other.acme.example"))
        assert found == (Attempted.NOT_TAKEN, "ConnectError")
        async with _client(running, tls=None) as client:
            assert (await client.send(_to(running.port)))[0] is Attempted.NOT_TAKEN
    assert running.got == []


async def test_nobody_there_and_no_such_name_are_tried_again(tmp_path: Path) -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with receiver(tmp_path) as running:
        async with _client(running) as client:
            assert await client.send(_to(1)) == (Attempted.NOT_TAKEN, "ConnectError")
        async with _client(running, resolve=unknown) as client:
            assert (await client.send(_to(running.port)))[0] is Attempted.NOT_TAKEN
        async with _client(running, resolve=resolve_host) as client:
            for host in ("a" * 70 + ".example", "no..such.example", "xn--.example", "%31.example"):
                assert await client.send(_to(running.port, host)) == (Attempted.NOT_TAKEN, ANY), host

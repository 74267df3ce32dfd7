"""Ask the accounts' owners from the command line.

Owns: one round of connecting, sending and saying what came of it.
Called by: `cli/accounts.py`, `cli/catalog.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import typer
from aiokafka.errors import KafkaError

from pipeline.accounts.commands import AccountCommand, Reply
from pipeline.kafka.commands import CommandClient, UnavailableError
from pipeline.settings import Settings

T = TypeVar("T")

FAILED, WRONG_USAGE = 1, 2


def fail(message: str, code: int = FAILED) -> typer.Exit:
    """Say on stderr what went wrong, and return the exit to raise."""
    print(message, file=sys.stderr)
    return typer.Exit(code)


def show(data: Any) -> None:
    """Print data as JSON on stdout."""
    print(json.dumps(data, ensure_ascii=False))


def with_client(settings: Settings, work: Callable[[CommandClient], Awaitable[T]]) -> T:
    """Return what `work` does with a connected client. Exits 1 where Kafka or the worker does not answer."""

    async def run() -> T:
        client = CommandClient(settings.kafka_servers, settings.partitions)
        await client.start()
        try:
            return await work(client)
        finally:
            await client.stop()

    try:
        return asyncio.run(run())
    except UnavailableError as error:
        raise fail(f"{error}. Is a worker running? The command may still be carried out.") from None
    except (KafkaError, TimeoutError) as error:
        raise fail(f"Kafka at {settings.kafka_servers} cannot be reached: {error!r}") from None


def ask(settings: Settings, command: AccountCommand) -> Any:
    """Send one command and return its result. Exits 1 with the reason where it was refused."""

    async def work(client: CommandClient) -> Reply:
        return await client.send(command)

    reply = with_client(settings, work)
    if reply.refusal is not None:
        raise fail(f"{reply.refusal.code}: {reply.refusal.message}")
    return json.loads(bytes(reply.result))

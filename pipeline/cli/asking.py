"""Ask the accounts' owners from the command line.

Owns: one round of connecting, sending and saying what came of it.
Called by: `cli/accounts.py`, `cli/catalog.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.errors import KafkaError

from pipeline.accounts.commands import AccountCommand, CommandRefusal, R
from pipeline.cli.context import CommandError, kafka_failed
from pipeline.kafka.commands import CommandClient, InvalidCommandError, UnavailableError
from pipeline.kafka.partitions import PartitionsError
from pipeline.settings import Settings

T = TypeVar("T")

ANSWER_LIMIT_S = 30.0
"""Longer than another worker takes over from one that died, 12 s: a command is not to be given up before it."""


class UnansweredError(CommandError):
    """A command was sent and not answered in time. It may still be carried out."""


def with_client(settings: Settings, work: Callable[[CommandClient], Awaitable[T]]) -> T:
    """Return what `work` does with a connected client. Raises CommandError where nobody answers."""

    async def run() -> T:
        client = CommandClient(settings.kafka, settings.command_keys)
        await client.start()
        try:
            return await work(client)
        finally:
            await client.stop()

    try:
        return asyncio.run(run())
    except UnavailableError as error:
        raise UnansweredError(
            f"{error}. Is a worker running? The command may still be carried out."
        ) from None
    except (InvalidCommandError, PartitionsError) as error:
        raise CommandError(str(error)) from None
    except (KafkaError, TimeoutError) as error:
        raise kafka_failed(error) from None


def ask(settings: Settings, command: AccountCommand[R]) -> R:
    """Send one command and return its result. Raises CommandError with the reason where it is refused."""

    async def work(client: CommandClient) -> R | CommandRefusal:
        return await client.send(command, ANSWER_LIMIT_S)

    answer = with_client(settings, work)
    if isinstance(answer, CommandRefusal):
        raise CommandError(f"{answer.code}: {answer.message}")
    return answer

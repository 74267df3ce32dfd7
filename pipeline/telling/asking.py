"""Ask an account's owner to tell its org something, round after round.

Owns: the rounds, which failures are only for now, and how fast owners are asked.
Called by: `telling/statements_ready.py` and `telling/unusual_hours.py`. Next: `kafka/commands.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from pipeline.accounts.commands import TellUnusualHour
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.kafka.commands import CommandRefusedError, InvalidCommandError, UnavailableError

log = logging.getLogger(__name__)

ROUND_S = 60.0
PAUSE_S = 0.02
"""For each org that is told, so that their owners have other things to do as well: 50 a second of a server at most."""
FOR_NOW = (UnavailableError, InvalidCommandError, CommandRefusedError)


class Owners(Protocol):
    """What brings a command to its account's owner: a `CommandClient`."""

    async def send(self, command: TellUnusualHour, /) -> object:
        """Return the owner's answer. Raises one of FOR_NOW where it has none now."""


async def in_rounds(turn: Callable[[], Awaitable[None]], undone: str) -> None:
    """Take a turn every minute, for ever; where the database is away say what is `undone`: the next round does it."""
    while True:
        try:
            await turn()
        except (EngineError, EngineUnavailable) as error:
            log.warning("%s, the database is away: %s", undone, error)
        await asyncio.sleep(ROUND_S)


async def asked(client: Owners, command: TellUnusualHour) -> bool:
    """Ask an owner to tell; return whether it has answered. Whether the org is told then is for the owner to decide."""
    try:
        await client.send(command)
    except FOR_NOW as error:
        log.warning("the owner of an account could not be asked to tell its org: %s", error)
        return False
    await asyncio.sleep(PAUSE_S)
    return True

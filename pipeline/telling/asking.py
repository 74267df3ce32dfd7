"""Ask an account's owner to tell its org something.

Owns: which failures are only for now, and how fast owners are asked.
Called by: `telling/statements_ready.py` and `telling/unusual_hours.py`. Next: `kafka/commands.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from pipeline.accounts.commands import Telling
from pipeline.kafka.commands import CommandRefusedError, InvalidCommandError, UnavailableError

log = logging.getLogger(__name__)

PAUSE_S = 0.02
"""Between two orgs, so that their owners have other things to do as well: 50 a second at most."""
FOR_NOW = (UnavailableError, InvalidCommandError, CommandRefusedError)


class Owners(Protocol):
    """What brings a command to its account's owner: a `CommandClient`."""

    async def send(self, command: Telling, /) -> object:
        """Return the owner's answer. Raises one of FOR_NOW where it has none now."""


async def asked(client: Owners, command: Telling) -> bool:
    """Ask an owner to tell; return whether it has answered. Whether the org is told then is for the owner to decide."""
    try:
        await client.send(command)
    except FOR_NOW as error:
        log.warning("the owner of an account could not be asked to tell its org: %s", error)
        return False
    await asyncio.sleep(PAUSE_S)
    return True

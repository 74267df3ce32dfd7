"""Supervise a part that runs beside the API: when it fails, a new one is made and started.

Owns: the pause between restarts. Called by: `api/server/main.py`. Next: `sink/sink.py`, `mail/mailer.py`.

The broker or the engine being away must not take the answers away too. Starting anew is as safe as a new
process: the new part fences the old one's writers and goes on from what they recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from pipeline.kafka.refused import in_one_line

log = logging.getLogger(__name__)

PAUSE_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class Restartable(Protocol):
    """What can be supervised. One that has failed is not run again; a new one is made."""

    async def run(self) -> None:
        """Run until cancelled."""

    @property
    def problem(self) -> str | None:
        """What keeps it from working, None where nothing does."""


class SupervisedPart:
    """A part that is made and started again whenever it fails."""

    def __init__(self, name: str, make: Callable[[], Restartable]) -> None:
        """Prepare; nothing is connected before `run`."""
        self._name, self._make = name, make
        self._part = make()
        self._failure: str | None = None

    async def problem(self) -> str | None:
        """Return what keeps the part from working, None where nothing does."""
        problem = self._part.problem
        return f"{problem}, after: {self._failure}" if problem and self._failure else problem

    async def run(self) -> None:
        """Run until cancelled."""
        clock = asyncio.get_running_loop().time
        tries = 0
        while True:
            started = clock()
            try:
                await self._part.run()
            except Exception as error:  # noqa: BLE001 - whatever ended it, a new one is tried
                self._tell(error)
            if clock() - started > PAUSE_S[-1] * 2:
                tries = 0
            self._part = self._make()
            await asyncio.sleep(PAUSE_S[min(tries, len(PAUSE_S) - 1)])
            tries += 1

    def _tell(self, error: Exception) -> None:
        """Log what ended the part: what a person has to set right as one line, once and not at each start."""
        to_do = in_one_line(error)
        if to_do is None:
            log.error("the %s failed and is started again", self._name, exc_info=error)
        elif to_do != self._failure:
            log.error("the %s cannot run, and is tried again and again: %s", self._name, to_do)
        self._failure = to_do or f"{type(error).__name__}: {error}"

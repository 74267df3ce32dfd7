"""Keep a sink running beside the API: when it ends by an error, start it anew from what it recorded.

Owns: the pause between tries. Called by: `api/main.py`. Next: `sink/sink.py`.

The broker or the engine being away must not take the answers away too. Starting anew is as safe as a new
process: the new sink fences the old one's writers and finishes the range they recorded.
"""

from __future__ import annotations

import asyncio
import logging

from pipeline.clickhouse.client import Engine
from pipeline.settings import Settings
from pipeline.sink.sink import Sink

log = logging.getLogger(__name__)

PAUSE_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class KeptSink:
    """A sink that is started again whenever it fails."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        """Prepare; nothing is connected before `run`."""
        self._settings, self._engine = settings, engine
        self._sink = Sink(settings, engine)
        self._failure: str | None = None

    @property
    def problem(self) -> str | None:
        """What keeps the sink from writing, None where nothing does."""
        problem = self._sink.problem
        return f"{problem}, after: {self._failure}" if problem and self._failure else problem

    async def run(self) -> None:
        """Run until cancelled."""
        tries = 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._sink.run()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("the sink failed and is started again")
                self._failure = f"{type(error).__name__}: {error}"
            if asyncio.get_running_loop().time() - started > PAUSE_S[-1] * 2:
                tries = 0
            self._sink = Sink(self._settings, self._engine)
            await asyncio.sleep(PAUSE_S[min(tries, len(PAUSE_S) - 1)])
            tries += 1

"""One spool for each process of a proxy, side by side in one directory, and nobody's events left behind.

Owns: which spool a process takes, and that the events of a spool whose process is gone are sent by those that are left.
Called by: `gateway/proxying/meter.py`. Next: `gateway/gateway.py`.

A process takes the first spool that no other has open: the spool's own lock says so, and ends with the process,
however that ends. So a worker that is started in place of a killed one goes on with its spool. Where there are fewer
workers than before, the others look after the spools that nobody has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from pipeline.gateway.errors import SpoolError, SpoolLocked
from pipeline.gateway.gateway import Gateway

log = logging.getLogger(__name__)

PROCESSES_MAX = 1024
LOOK_EVERY_S = 30.0
SEND_LIMIT_S = 60.0
_LOOK_AGAIN_S = 0.1

MakeGateway = Callable[[Path], Gateway]


class Spools:
    """The spools of one proxy node, below `directory`."""

    def __init__(self, directory: Path, make: MakeGateway) -> None:
        """Prepare; `make` returns a gateway on a spool, not yet entered."""
        self._directory, self._make = directory, make
        self._own: Path | None = None
        self._looked_at_ns: dict[Path, int] = {}

    async def enter_free(self) -> Gateway:
        """Return a gateway, entered, on the first spool that is free.

        Raises SpoolLocked where none is, SpoolBroken where the first one that is free cannot be opened.
        """
        for number in range(PROCESSES_MAX):
            place = self._directory / f"worker-{number}"
            gateway = self._make(place)
            try:
                await gateway.__aenter__()
            except SpoolLocked:
                continue
            self._own = place
            return gateway
        raise SpoolLocked(f"all {PROCESSES_MAX} spools in {self._directory} are taken")

    async def look_after_others(self, every_s: float = LOOK_EVERY_S) -> None:
        """Send what is in spools that no process has open, again and again, until cancelled."""
        while True:
            for place in sorted(self._directory.glob("worker-*")):
                if place != self._own:
                    await self._look_after(place)
            await asyncio.sleep(every_s)

    async def _look_after(self, place: Path) -> None:
        """Send what a spool holds, unless another process has it open or nothing was written since the last look."""
        changed_ns = _changed_ns(place)
        if self._looked_at_ns.get(place) == changed_ns:
            return
        try:
            async with self._make(place) as gateway:
                async with asyncio.timeout(SEND_LIMIT_S):
                    while gateway.status().waiting_events:
                        await asyncio.sleep(_LOOK_AGAIN_S)
        except SpoolLocked:
            return
        except TimeoutError:
            log.warning("the events in %s, whose process is gone, could not all be sent yet", place)
            return
        except SpoolError as error:
            log.warning("the spool %s, whose process is gone, cannot be opened: %s", place, error)
            return
        self._looked_at_ns[place] = _changed_ns(place)


def _changed_ns(place: Path) -> int:
    """Return when anything in a directory was last written; 0 where it changes under this look."""
    try:
        return max((path.stat().st_mtime_ns for path in place.iterdir()), default=0)
    except FileNotFoundError:
        return 0

"""An operator redrives dead letters over the models: the product's own steps, with a stop wherever it may end.

Owns: how each step is taken. The steps themselves, and which letters can be charged, are the product's
(`pipeline/posting/redriving.py`). Called by: `world.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, assert_never

from pipeline.catalog.rates import RateTable
from pipeline.posting import redriving
from pipeline.posting.redriving import STATE_PLACE, Letter, NextLetters, RedriveStep
from pipeline.steps import Commit, Fence, Now, Restore
from pipeline.topics import DEAD_LETTERS
from tests.simulation.driving import FencedLogModel, Stops, drive
from tests.simulation.kafka import Producer

if TYPE_CHECKING:
    from tests.simulation.world import World

STEPS = ("redrive.fenced", "redrive.restoring", "redrive.sending", "redrive.sent", "redrive.committed")


class Redriver:
    """One run of the command."""

    def __init__(self, world: World, letters_max: int) -> None:
        """Prepare to redrive all letters that can be charged now, `letters_max` a transaction."""
        self._world, self._letters_max = world, letters_max
        self.producer: Producer | None = None
        self._log = FencedLogModel(world, self, "redrive", "redrive")
        self._unread = iter(range(world.plan.partitions))

    def run(self) -> Iterator[str]:
        """Redrive, yielding the name of each stop."""
        rates = RateTable()
        for _, rate in self._world.workload.rates:
            rates.add(rate)
        partitions = self._world.plan.partitions
        steps = redriving.redrive(rates, partitions, too_late=False, letters_max=self._letters_max)
        yield from drive(steps, self._take)

    def _take(self, step: RedriveStep) -> Stops[object]:
        match step:
            case Fence():
                yield from self._log.fence(STATE_PLACE)
            case Restore(place):
                return step.answered((yield from self._log.restore(place)))
            case NextLetters(starts):
                partition = next(self._unread, None)
                return step.answered(
                    None if partition is None else self._letters(partition, starts.get(partition, 0))
                )
            case Now():
                return step.answered(self._world.clock.now_ms)
            case Commit():
                yield from self._log.commit(step)
                yield "redrive.committed"
            case _:
                assert_never(step)
        return None

    def _letters(self, partition: int, start: int) -> list[Letter]:
        entries = self._world.broker.log(DEAD_LETTERS, partition).all_committed()
        return [
            Letter(partition, entry.offset, entry.value or b"", entry.headers)
            for entry in entries
            if entry.offset >= start
        ]

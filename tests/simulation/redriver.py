"""An operator redrives dead letters, step by step.

Owns: the steps of `pipeline/operations/redrive.py` as a generator; which letters can be charged is the
product's own decision. Called by: `world.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.catalog.rates import RateTable
from pipeline.partitioning import partition_of
from pipeline.posting.redriving import chargeable
from pipeline.topics import DEAD_LETTERS, MOVED, REDRIVE_STATE
from tests.simulation.kafka import Entry

if TYPE_CHECKING:
    from tests.simulation.world import World

STEPS = ("redrive.fenced", "redrive.sent", "redrive.committed")


def redrive(world: World, letters_max: int) -> Iterator[str]:
    """Redrive all letters that can be charged now, `letters_max` a transaction, yielding each step."""
    producer = world.broker.start_producer("redrive")
    yield "redrive.fenced"
    state = world.broker.log(REDRIVE_STATE, 0)
    done = {entry.key for entry in state.all_committed()}
    rates = RateTable()
    for _, rate in world.workload.rates:
        rates.add(rate)
    batch: list[tuple[bytes, int, Entry]] = []
    for partition in range(world.plan.partitions):
        for letter in world.broker.log(DEAD_LETTERS, partition).all_committed():
            mark = f"{partition}-{letter.offset}".encode()
            reason = dict(letter.headers)["reason"].decode()
            event = chargeable(letter.value or b"", reason, rates, world.clock.now_ms, too_late=False)
            if event is not None and mark not in done:
                batch.append((mark, partition_of(event.subject, world.plan.partitions), letter))
    for start in range(0, len(batch), letters_max):
        producer.begin(Counter())
        world.broker.receive()
        for mark, partition, letter in batch[start : start + letters_max]:
            headers = [*letter.headers, ("redriven", mark)]
            producer.send(world.broker.log(MOVED, partition), None, letter.value, headers)
            producer.send(state, mark, b"1")
        yield "redrive.sent"
        producer.commit()
        yield "redrive.committed"

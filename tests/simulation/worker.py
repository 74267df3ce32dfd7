"""The worker's protocol, step by step, around the real core.

Owns: the steps of `pipeline/worker/partition.py` as a generator that stops wherever a process may end,
be frozen or be overtaken. What is decided, and what goes to which topic, is the product's own code.
Called by: `members.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast
from unittest.mock import Mock

from pipeline.catalog.rates import RateTable
from pipeline.journal import read_headers
from pipeline.posting.commands import post_commands
from pipeline.posting.requests import post_requests
from pipeline.posting.state import PartitionState, StateError
from pipeline.posting.unit import Outcome, Unit, close, fresh
from pipeline.topics import BILLING, INPUTS, JOURNAL, MOVED, REQUESTS, STATE
from pipeline.worker.partition import CATALOG_AGE_LIMIT_S, Partition
from tests.simulation.kafka import Entry, Log, Producer, UnclearError

if TYPE_CHECKING:
    from tests.simulation.members import Member, Pump
    from tests.simulation.world import World

GROUP = "worker"
STEPS = (
    "worker.fenced",
    "worker.restoring",
    "worker.restored",
    "worker.fetched",
    "worker.posting",
    "worker.decided",
    "worker.sending",
    "worker.sent",
    "worker.committed",
)


class WorkerPump:
    """One partition in one worker's hands."""

    def __init__(self, world: World, member: Member, pump: Pump, partition: int) -> None:
        """Prepare; `run` makes it ours."""
        self._world, self._member, self._pump = world, member, pump
        self._broker, self._rng = world.broker, world.rng
        self._rules, self._partition = world.plan.rules, partition
        self._state = PartitionState(partition, world.plan.partitions)
        # Which topic an output goes to is decided by the product's own methods.
        self._real = cast(Partition, Mock(_partition=partition))
        self._producer: Producer

    def run(self) -> Iterator[str]:
        """Own the partition until told to stop, yielding the name of each step as it is reached."""
        yield from self._open()
        offsets = self._state.meta.offsets
        if self._rules.start == "group":
            offsets = {t: self._broker.group_offsets.get((GROUP, t, self._partition), 0) for t in INPUTS}
        at = {topic: offsets.get(topic, 0) for topic in INPUTS}
        while not self._pump.stopping:
            batches: list[tuple[str, list[Entry]]] = []
            for topic in self._rng.sample(INPUTS, len(INPUTS)):
                log = self._broker.log(topic, self._partition)
                records, at[topic] = log.read(
                    at[topic], self._world.plan.read_max, committed=self._rules.read_committed
                )
                if records:
                    batches.append((topic, records))
            if not batches:
                yield "idle"
                continue
            yield "worker.fetched"
            for topic, records in batches:
                if self._pump.stopping:
                    self._world.counts["batches dropped after a rebalance"] += 1
                    return
                yield from self._unit(topic, records)

    def _open(self) -> Iterator[str]:
        log = self._broker.log(STATE, self._partition)
        end = log.stable_end
        if self._rules.restore_end == "before fencing":
            yield "worker.restoring"
        self._producer = self._broker.start_producer(f"worker-{self._partition}")
        self._pump.producer = self._producer
        yield "worker.fenced"
        if self._rules.restore_end != "before fencing":
            end = log.stable_end if self._rules.read_committed else log.next_offset
        found: dict[bytes, bytes] = {}
        at = 0
        while at < end:
            if self._rules.restore_end == "short" and at and at + self._world.plan.restore_max >= end:
                break
            at = self._restore_some(log, at, found)
            yield "worker.restoring"
        self._state = PartitionState.restored(self._partition, self._world.plan.partitions, found)
        if self._rules.journal_checked:
            self._check_against_journal()
        yield "worker.restored"

    def _check_against_journal(self) -> None:
        last = self._broker.log(JOURNAL, self._partition).last_committed()
        in_journal = 1 if last is None else read_headers(last.headers, b"").last + 1
        if self._state.meta.position != in_journal:
            self._producer.begin(Counter())
            self._producer.send_offsets(GROUP, {(REQUESTS, self._partition): 0})
            self._producer.commit()
            raise StateError(f"state at {self._state.meta.position}, journal at {in_journal}")

    def _restore_some(self, log: Log, at: int, found: dict[bytes, bytes]) -> int:
        records, at = log.read(at, self._world.plan.restore_max, committed=self._rules.read_committed)
        for record in records:
            assert record.key is not None
            if record.value is None:
                found.pop(record.key, None)
            else:
                found[record.key] = record.value
        return at

    def _unit(self, topic: str, records: Sequence[Entry]) -> Iterator[str]:
        rules, state = self._rules, self._state
        if rules.group_offsets == "before":
            self._commit_offsets({topic: records[-1].offset + 1})
            yield "worker.posting"
        if rules.marks:
            kept = fresh(state, records, gapless=topic == REQUESTS)
        else:
            kept = list(records)
            state.meta.offsets[topic] = records[-1].offset + 1
        if not kept:
            return
        unit = Unit(state, self._member.rates_no_older_than(CATALOG_AGE_LIMIT_S))
        if topic == BILLING:
            post_commands(unit, kept)
        else:
            self._forget(topic)
            for _ in post_requests(unit, kept, moved=topic == MOVED, rest_every=1):
                if self._rng.random() < 0.1:
                    yield "worker.posting"
        outcome = close(unit, REQUESTS)
        yield "worker.decided"
        yield from self._commit(outcome, topic)
        yield "worker.committed"
        if rules.group_offsets == "after":
            self._commit_offsets(outcome.offsets)

    def _forget(self, topic: str) -> None:
        """Forget what a mutant does not look at; nothing by the real rules."""
        rules, state = self._rules, self._state
        if not rules.numbers_checked:
            state.sources.last.clear()
        if not rules.marks_checked or (topic == MOVED and not rules.moved_checked):
            state.ring.known.clear()
        if not rules.letters_remembered:
            state.unpriced.known.clear()

    def _commit(self, outcome: Outcome, topic: str) -> Iterator[str]:
        note = outcome.counts
        note[f"events of {topic}"] = note["events"]
        self._producer.begin(note)
        self._broker.receive()
        writes = [
            (self._broker.log(place.topic, place.partition), output)
            for place, outputs in Partition._outputs(self._real, outcome).items()
            for output in outputs
        ]
        if self._rng.random() < 0.5:
            # The partitions' requests are under way together; each partition keeps its order.
            self._rng.shuffle(order := list(dict.fromkeys(log for log, _ in writes)))
            writes.sort(key=lambda write: order.index(write[0]))
        pause = self._rng.randrange(len(writes) + 1) if self._rng.random() < 0.5 else -1
        for number, (log, output) in enumerate(writes):
            if number == pause:
                yield "worker.sending"
            self._producer.send(log, output.key, output.value, output.headers)
        if self._rules.group_offsets == "in transaction":
            self._producer.send_offsets(
                GROUP, {(t, self._partition): offset for t, offset in outcome.offsets.items()}
            )
        yield "worker.sent"
        try:
            self._producer.commit()
        except UnclearError:
            if self._rules.after_unclear == "end":
                raise
            self._broker.expire(self._producer)
            yield from self._commit(outcome, topic)

    def _commit_offsets(self, offsets: dict[str, int]) -> None:
        for topic, offset in offsets.items():
            self._broker.group_offsets[GROUP, topic, self._partition] = offset


class Rates:
    """A worker's copy of the catalog, which is never older than it may be."""

    def __init__(self, world: World) -> None:
        """Read the catalog to its end, as a worker does before its first unit."""
        self._world = world
        self._table = RateTable()
        self._read, self._confirmed_ms = 0, 0
        self.follow()

    def follow(self) -> None:
        """Read on to the end of the catalog."""
        published = self._world.workload.rates
        for _, rate in published[self._read :]:
            self._table.add(rate)
        self._read, self._confirmed_ms = len(published), self._world.clock.now_ms

    def no_older_than(self, limit_s: float) -> RateTable:
        """Return the rates, reading on first where they were last confirmed too long ago."""
        if self._world.clock.now_ms - self._confirmed_ms > limit_s * 1000:
            self.follow()
        return self._table

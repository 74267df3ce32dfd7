"""The sink's protocol, step by step, around the real rules for ranges.

Owns: the steps of `pipeline/sink/partition.py` as a generator. Cutting, tokens, payloads and judging an
old range are the product's own code. Called by: `members.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.journal import JournalRecord, read_headers
from pipeline.sink import ranges
from pipeline.sink.partition import INTENT_KEY
from pipeline.sink.ranges import Intent
from pipeline.topics import JOURNAL, SINK_STATE
from tests.simulation.clickhouse import Insert, LostError, RefusedError
from tests.simulation.kafka import Producer

if TYPE_CHECKING:
    from tests.simulation.members import Member, Pump
    from tests.simulation.world import World

GROUP = "sink"
STEPS = ("sink.fenced", "sink.sent", "sink.recorded", "sink.inserting", "sink.retrying", "sink.inserted")
Placed = tuple[int, JournalRecord]


class SinkPump:
    """One partition of the journal in one sink's hands."""

    def __init__(self, world: World, member: Member, pump: Pump, partition: int) -> None:
        """Prepare; `run` makes it ours."""
        self._world, self._pump, self._partition = world, pump, partition
        self._broker, self._store, self._rng = world.broker, world.store, world.rng
        self._rules = world.plan.rules
        self._safe_ms = world.plan.safe_ms
        self._tries = 0
        self._producer: Producer
        _ = member

    def run(self) -> Iterator[str]:
        """Own the partition until told to stop, yielding the name of each step as it is reached."""
        self._producer = self._broker.start_producer(f"sink-{self._partition}")
        self._pump.producer = self._producer
        yield "sink.fenced"
        at = 0
        intent = self._recorded()
        if intent is not None:
            at = intent.next_offset
            if self._rules.intent == "finish":
                judged = self._rules.found_ranges_judged
                yield from self._insert(intent, self._read(intent), judged=judged)
                yield "sink.inserted"
            elif self._rules.intent == "cut anew":
                at = intent.first_offset
        journal = self._broker.log(JOURNAL, self._partition)
        buffer: deque[Placed] = deque()
        next_ms = 0
        while True:
            records, at = journal.read(at, self._world.plan.read_max, committed=self._rules.read_committed)
            buffer += [(r.offset, read_headers(r.headers, r.value or b"")) for r in records]
            if not buffer or self._world.clock.now_ms < next_ms:
                yield "lingering" if buffer else "idle"
                continue
            most = min(
                len(buffer), self._rng.randint(1, self._world.plan.range_max), ranges.RANGE_RECORDS_MAX
            )
            yield from self._write([buffer.popleft() for _ in range(most)])
            next_ms = self._world.clock.now_ms + self._world.plan.linger_ms

    def _recorded(self) -> Intent | None:
        found = self._broker.log(SINK_STATE, self._partition).all_committed()
        return ranges.decode(found[-1].value or b"") if found else None

    def _write(self, records: Sequence[Placed]) -> Iterator[str]:
        intent = ranges.cut(records, self._world.clock.now_ms)
        if self._rules.insert_before_intent:
            yield from self._insert(intent, records)
        yield from self._record(intent)
        if not self._rules.insert_before_intent:
            yield from self._insert(intent, records)
        yield "sink.inserted"

    def _record(self, intent: Intent) -> Iterator[str]:
        self._producer.begin(Counter())
        self._broker.receive()
        log = self._broker.log(SINK_STATE, self._partition)
        self._producer.send(log, INTENT_KEY, ranges.encode(intent))
        self._producer.send_offsets(GROUP, {(JOURNAL, self._partition): intent.first_offset})
        yield "sink.sent"
        self._producer.commit()
        yield "sink.recorded"

    def _read(self, intent: Intent) -> list[Placed]:
        entries, _ = self._broker.log(JOURNAL, self._partition).read(intent.first_offset, 10**9)
        return [
            (e.offset, read_headers(e.headers, e.value or b""))
            for e in entries
            if e.offset < intent.next_offset
        ]

    def _insert(self, intent: Intent, records: Sequence[Placed], *, judged: bool = True) -> Iterator[str]:
        left: Intent | None = intent
        while left is not None:
            part = left.parts[0]
            token = ranges.token("simulation", self._partition, part)
            if self._rules.token_per_try:
                self._tries += 1
                token = f"{token}/{self._tries}"
            insert = Insert(part.kind, ranges.payload(records, part.kind), token)
            # Whoever ends this process from here on may leave the insert on its way.
            self._pump.on_its_way = insert
            yield "sink.inserting"
            self._pump.on_its_way = None
            if judged and self._world.clock.now_ms - left.at_ms > self._safe_ms / 2:
                left = self._left_of(left)
                if left is not None:
                    yield from self._record(left)
                continue
            try:
                self._store.insert(insert)
            except (LostError, RefusedError) as error:
                if not (self._rules.unclear_insert_is_done and isinstance(error, LostError)):
                    yield "sink.retrying"
                    continue
            left = ranges.without_first(left)

    def _left_of(self, intent: Intent) -> Intent | None:
        self._world.counts["ranges found too old"] += 1
        found = {
            part.kind: self._store.count(part.kind, *ranges.ids(self._partition, part), self._partition)
            for part in intent.parts
        }
        return ranges.left_of(intent, found, self._world.clock.now_ms)

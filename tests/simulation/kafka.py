"""A model of Kafka: partitioned logs, transactions, fencing, compaction, and what a group has committed.

Owns: what a broker does, as its protocol documents it. Called by: `driving.py`, `worker.py`, `sink.py`, `mail.py`, `workload.py`.

Control markers take offsets of their own. A transaction is decided at once, but its markers reach the
partitions one by one, later; a reader of committed records stops at the last stable offset until then.
Starting a producer, or its next transaction, waits until the markers of the one before are all written.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

Headers = Sequence[tuple[str, bytes]]
DAY_MS = 86_400_000


class FencedError(Exception):
    """The producer's id was taken over: nothing of it is written any more."""


class UnclearError(Exception):
    """No answer came; what was asked for has happened, or it has not."""


@dataclass(slots=True)
class Entry:
    """A record in a log; also what the real core takes for an input record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    transaction: Transaction | None


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction: `committed` is None while it is open. `note` is for the account of the truth."""

    producer: Producer
    note: Counter[str]
    logs: list[Log] = field(default_factory=list)
    committed: bool | None = None
    markers_left: int = 0


class Log:
    """One partition of a topic."""

    def __init__(self, topic: str, partition: int) -> None:
        """Start empty."""
        self.topic, self.partition = topic, partition
        self.entries: list[Entry] = []
        self.next_offset = 0
        self.skew_ms = 0
        self._offsets: list[int] = []
        self._open: dict[Transaction, int] = {}

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        transaction: Transaction | None = None,
    ) -> Entry:
        """Append a record."""
        entry = Entry(
            self.topic, self.partition, self.next_offset, timestamp, key, value, headers, transaction
        )
        if transaction is not None and transaction not in self._open:
            self._open[transaction] = entry.offset
            transaction.logs.append(self)
        self.entries.append(entry)
        self._offsets.append(entry.offset)
        self.next_offset += 1
        return entry

    def mark(self, transaction: Transaction) -> None:
        """Append a transaction's control marker."""
        self.next_offset += 1
        del self._open[transaction]

    @property
    def stable_end(self) -> int:
        """The last stable offset: everything below it is decided here."""
        return min(self._open.values(), default=self.next_offset)

    def read(self, start: int, count: int, *, committed: bool = True) -> tuple[list[Entry], int]:
        """Return up to `count` records from an offset on, and the offset to read from next."""
        end = self.stable_end if committed else self.next_offset
        found: list[Entry] = []
        at = bisect_left(self._offsets, start)
        while at < len(self.entries):
            entry = self.entries[at]
            if entry.offset >= end:
                break
            if len(found) == count:
                return found, entry.offset
            if not committed or entry.transaction is None or entry.transaction.committed:
                found.append(entry)
            at += 1
        return found, max(start, end)

    def all_committed(self) -> list[Entry]:
        """Return every committed record there is now."""
        return self.read(0, len(self.entries) + 1)[0]

    def last_committed(self) -> Entry | None:
        """Return the last committed record there is now."""
        end = self.stable_end
        for entry in reversed(self.entries):
            decided = entry.transaction is None or entry.transaction.committed
            if entry.offset < end and decided:
                return entry
        return None

    def compact(self, below: int, now_ms: int) -> int:
        """Keep only the newest committed value of each key below an offset; return how many went."""
        below = min(below, self.stable_end)
        newest: dict[bytes | None, int] = {}
        for entry in self.entries:
            if entry.offset >= below:
                break
            if entry.transaction is None or entry.transaction.committed:
                newest[entry.key] = entry.offset
        kept = [
            entry
            for entry in self.entries
            if entry.offset >= below
            or (
                newest.get(entry.key) == entry.offset
                and not (entry.value is None and entry.timestamp < now_ms - DAY_MS)
            )
        ]
        gone = len(self.entries) - len(kept)
        self.entries = kept
        self._offsets = [entry.offset for entry in kept]
        return gone


class Broker:
    """All logs, the transaction coordinator, and the groups' offsets."""

    def __init__(
        self, rng: random.Random, now_ms: Callable[[], int], *, fencing: bool, slow_markers: float
    ) -> None:
        """Start with no log. `now_ms` is the clock that stamps records."""
        self._rng, self._now_ms = rng, now_ms
        self._fencing, self.slow_markers = fencing, slow_markers
        self.lost_answer = 0.0
        self.counts: Counter[str] = Counter()
        self.group_offsets: dict[tuple[str, str, int], int] = {}
        self.decided: list[Transaction] = []
        self._logs: dict[tuple[str, int], Log] = {}
        self._current: dict[str, Producer] = {}
        self._producers: list[Producer] = []
        self._markers: list[tuple[Transaction, Log]] = []

    def log(self, topic: str, partition: int) -> Log:
        """Return a log, an empty one the first time."""
        found = self._logs.get((topic, partition))
        if found is None:
            found = self._logs[topic, partition] = Log(topic, partition)
        return found

    def publish(
        self, topic: str, partition: int, value: bytes, key: bytes | None = None, headers: Headers = ()
    ) -> Entry:
        """Append a record outside any transaction."""
        log = self.log(topic, partition)
        return log.append(self._now_ms() - log.skew_ms, key, value, headers)

    def start_producer(self, transactional_id: str) -> Producer:
        """Fence the earlier producer of an id and abort what it has open."""
        producer = Producer(self, transactional_id)
        if self._fencing:
            before = self._current.get(transactional_id)
            if before is not None:
                self.expire(before)
                self.settle(before)
        self._current[transactional_id] = producer
        self._producers.append(producer)
        return producer

    def expire(self, producer: Producer) -> None:
        """Abort what a producer has open."""
        if producer.transaction is not None and producer.transaction.committed is None:
            self.counts["transactions aborted"] += 1
            self.decide(producer.transaction, committed=False)

    def time_out(self, producer: Producer) -> None:
        """Abort a transaction that has been open for too long, and fence whoever forgot it."""
        if producer.transaction is not None and producer.transaction.committed is None:
            self.counts["transactions timed out"] += 1
            self.expire(producer)
            producer.fenced = self._fencing

    def forgotten(self, alive: Iterable[Producer]) -> list[Producer]:
        """Return the producers with an open transaction that are not among those alive."""
        lively = set(map(id, alive))
        self._producers = [
            p
            for p in self._producers
            if id(p) in lively or (p.transaction is not None and p.transaction.committed is None)
        ]
        return [p for p in self._producers if id(p) not in lively]

    def check(self, producer: Producer) -> None:
        """Raise FencedError where the producer's id was taken over, or its transaction is over."""
        transaction = producer.transaction
        if (
            producer.fenced
            or (self._fencing and self._current.get(producer.transactional_id) is not producer)
            or (transaction is not None and transaction.committed is not None)
        ):
            self.counts["writes fenced"] += 1
            raise FencedError(producer.transactional_id)

    def decide(self, transaction: Transaction, *, committed: bool) -> None:
        """Commit or abort; markers are written now, or slowly."""
        transaction.committed = committed
        if committed:
            self.decided.append(transaction)
        todo = [(transaction, log) for log in transaction.logs]
        transaction.markers_left = len(todo)
        self._markers += todo
        if self._rng.random() >= self.slow_markers:
            self.settle(transaction.producer)

    def settle(self, producer: Producer) -> None:
        """Write all markers that are left of a producer's transactions."""
        left = []
        for transaction, log in self._markers:
            if transaction.producer is producer:
                self._write_marker(transaction, log)
            else:
                left.append((transaction, log))
        self._markers = left

    def settle_one(self) -> None:
        """Write one marker, any."""
        if self._markers:
            self._write_marker(*self._markers.pop(self._rng.randrange(len(self._markers))))

    def settle_all(self) -> None:
        """Write all markers."""
        while self._markers:
            self._write_marker(*self._markers.pop(0))

    def _write_marker(self, transaction: Transaction, log: Log) -> None:
        transaction.markers_left -= 1
        log.mark(transaction)

    def answer(self) -> None:
        """Answer a request that was carried out, or lose the answer."""
        if self._rng.random() < self.lost_answer:
            self.counts["answers lost, done"] += 1
            raise UnclearError

    def receive(self) -> None:
        """Take a request in, or lose it."""
        if self._rng.random() < self.lost_answer:
            self.counts["answers lost, not done"] += 1
            raise UnclearError

    def now_at(self, log: Log) -> int:
        """Return the time by the clock of a log's broker."""
        return self._now_ms() - log.skew_ms


class Producer:
    """A transactional producer."""

    def __init__(self, broker: Broker, transactional_id: str) -> None:
        """Prepare; the broker starts it."""
        self.transactional_id = transactional_id
        self.transaction: Transaction | None = None
        self.fenced = False
        self._broker = broker

    def begin(self, note: Counter[str]) -> None:
        """Begin a transaction, once the one before is written to the end."""
        self._broker.settle(self)
        self.transaction = Transaction(self, note)

    def send(self, log: Log, key: bytes | None, value: bytes | None, headers: Headers = ()) -> Entry:
        """Write a record within the transaction. Raises FencedError."""
        self._broker.check(self)
        return log.append(self._broker.now_at(log), key, value, headers, self.transaction)

    def commit(self) -> None:
        """Commit. Raises FencedError, or UnclearError where the answer is lost."""
        self._broker.receive()
        self._broker.check(self)
        assert self.transaction is not None
        self._broker.decide(self.transaction, committed=True)
        self._broker.answer()

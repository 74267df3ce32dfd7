"""Write one partition's journal into ClickHouse: record the range, insert it, go on.

Owns: the numbered steps of a range, what happens at start, and retrying until the answer is clear.
Called by: `sink/sink.py`. Next: `clickhouse/client.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import telemetry, topics
from pipeline.clickhouse import lost
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import DEDUPLICATION_WINDOW
from pipeline.clickhouse.queries import query
from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.journal import COLUMNS, LEDGER, REQUESTS, JournalRecord, read_headers
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.fenced import FencedLog, Output
from pipeline.sink import ranges
from pipeline.sink.ranges import HalfThereError, Intent, Part

log = logging.getLogger(__name__)

TABLES = {REQUESTS: "events", LEDGER: "ledger"}
INTENT_KEY = b"intent"
LINGER_S = 0.25
"""How long rows gather before they are inserted, at the least: one insert costs the engine some 30 ms of CPU and a
merge later, for 1 row or 1,000."""
LINGER_MAX_S = 2.0
BUFFER_BYTES_MAX = 2 * ranges.RANGE_BYTES_MAX
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class IntentError(Exception):
    """A recorded range is half there and too old to be sent again safely."""


class SinkPartition:
    """One partition of the journal on its way into ClickHouse."""

    def __init__(
        self, kafka: KafkaConnection, deployment: str, partition: int, partitions: int, engine: Engine
    ) -> None:
        """Prepare; `open` makes it ours."""
        self._kafka, self._deployment = kafka, deployment
        self._partition, self._partitions = partition, partitions
        self._engine = engine
        self._safe_ms = ranges.safe_age_ms(DEDUPLICATION_WINDOW, partitions, 1 / LINGER_S)
        self._log = FencedLog(kafka, f"{deployment}-sink-{partition}", role="sink")
        self._buffer: deque[tuple[int, JournalRecord, int]] = deque()
        self._buffered_bytes = 0
        self._changed = asyncio.Event()
        self._recorded: Intent | None = None
        self._linger_s = LINGER_S
        self._room = asyncio.Event()
        self._room.set()
        self.problem: str | None = None

    async def open(self) -> int:
        """Fence the previous owner, finish the range it recorded last, and return the next offset."""
        await self._log.start()
        state = await self._log.restore(topics.SINK_STATE, self._partition)
        recorded = state.get(INTENT_KEY)
        if recorded is None:
            return 0
        self._recorded = intent = ranges.decode(recorded)
        # Whoever recorded it may have ended before, while or after it was written.
        await self._insert(intent, await self._read(intent), again=True)
        return intent.next_offset

    async def close(self) -> None:
        """Disconnect. What was not recorded stays in the journal for the next owner."""
        await self._log.close()

    async def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take journal records in, waiting while too much is waiting already."""
        await self._room.wait()
        for record in records:
            row = read_headers(record.headers, record.value)
            self._buffer.append((record.offset, row, record.timestamp))
            self._buffered_bytes += len(row.value)
        if self._buffered_bytes > BUFFER_BYTES_MAX:
            self._room.clear()
        self._changed.set()

    async def run(self) -> None:
        """Write ranges until cancelled. Raises what must end the sink."""
        while True:
            await self._changed.wait()
            if self._buffered_bytes < ranges.RANGE_BYTES_MAX:
                await asyncio.sleep(self._linger_s)
            await self._write_next()

    async def _write_next(self) -> None:
        taken = self._take()
        newest_ms = taken[-1][2]
        records = [(offset, record) for offset, record, _ in taken]
        # 1. Cut the range, and record it: from here on it is this range or none.
        intent = ranges.cut(records, _now_ms())
        await self._record(intent)
        reach("sink.recorded")
        # 2. Write it, again and again until the answer is clear. The next range waits.
        started = time.monotonic()
        await self._insert(intent, records)
        reach("sink.inserted")
        # A busy engine gets fewer and larger inserts: for twice as long as the last one took, rows gather.
        self._linger_s = min(LINGER_MAX_S, max(LINGER_S, 2 * (time.monotonic() - started)))
        telemetry.SINK_BEHIND.labels(self._partition).set(max(0.0, time.time() - newest_ms / 1000))

    def _take(self) -> list[tuple[int, JournalRecord, int]]:
        taken: list[tuple[int, JournalRecord, int]] = []
        taken_bytes = 0
        while self._buffer and len(taken) < ranges.RANGE_RECORDS_MAX and taken_bytes < ranges.RANGE_BYTES_MAX:
            taken.append(self._buffer.popleft())
            taken_bytes += len(taken[-1][1].value)
        self._buffered_bytes -= taken_bytes
        if not self._buffer:
            self._changed.clear()
        if self._buffered_bytes <= BUFFER_BYTES_MAX:
            self._room.set()
        return taken

    async def _record(self, intent: Intent) -> None:
        state, journal = (TopicPartition(t, self._partition) for t in (topics.SINK_STATE, topics.JOURNAL))
        await self._log.commit(
            {state: [Output(INTENT_KEY, ranges.encode(intent))]},
            {journal: intent.first_offset},
            sink_group(self._deployment),
        )
        self._recorded = intent

    async def _insert(
        self, intent: Intent, records: Sequence[tuple[int, JournalRecord]], *, again: bool = False
    ) -> None:
        """Send a range part by part, each until the engine says that it has it.

        `again` says that it may have been sent before.
        """
        left: Intent | None = intent
        tries = 0
        while left is not None or again:
            try:
                if left is None:
                    await self._put_back(intent, records)
                    again = False
                # Half of the time a token is remembered is kept for sending.
                elif _now_ms() - left.at_ms > self._safe_ms / 2:
                    left = await self._left_of(left)
                else:
                    await self._send(left.parts[0], records)
                    left = ranges.without_first(left)
            except (EngineError, EngineUnavailable) as error:
                telemetry.SINK_RETRIES.inc()
                self.problem = f"partition {self._partition}: {error}"
                log.warning("range %s not confirmed, sending it again: %s", intent.first_offset, error)
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
                again = True
            else:
                self.problem = None
                tries = 0

    async def _send(self, part: Part, records: Sequence[tuple[int, JournalRecord]]) -> None:
        started = time.monotonic()
        sent = self._sent(part, records)
        insert = self._engine.insert
        await self._engine.writing(insert, sent.table, sent.columns, sent.payload, sent.token)
        telemetry.SINK_INSERT.observe(time.monotonic() - started)
        telemetry.SINK_ROWS.labels(part.kind).inc(part.rows)

    def _sent(self, part: Part, records: Sequence[tuple[int, JournalRecord]]) -> lost.Sent:
        return lost.Sent(
            TABLES[part.kind],
            COLUMNS[part.kind],
            self._partition,
            *ranges.ids(self._partition, part),
            part.rows,
            ranges.payload(records, part.kind),
            ranges.token(self._deployment, self._partition, part),
        )

    async def _put_back(self, intent: Intent, records: Sequence[tuple[int, JournalRecord]]) -> None:
        """Add what an engine that was killed meanwhile has lost of a range that it has confirmed."""
        writing, engine = self._engine.writing, self._engine
        if not await writing(lost.may_have_lost, engine, (_now_ms() - intent.at_ms) / 1000):
            return
        for part in intent.parts:
            sent = self._sent(part, records)
            if await writing(lost.lacks_rows, engine, sent):
                staging = await writing(lost.prepare, engine, sent)
                # Refused where a later owner is there: it does this itself.
                await self._record(self._recorded or intent)
                telemetry.SINK_PUT_BACK.inc(await writing(lost.put_back, engine, sent, staging))
            if part.kind == REQUESTS:
                telemetry.SINK_PUT_BACK.inc(await writing(lost.complete_roll_ups, engine, sent))

    async def _left_of(self, intent: Intent) -> Intent | None:
        """Return what of an old range still has to be sent, recorded anew, None where all is there.

        The range may have been sent long ago, by an earlier owner or, if this one was stopped for long, by
        a later one; recording is refused to a stale owner. Raises IntentError where nobody can tell.
        """
        now_ms = _now_ms()
        found: dict[str, int] = {}
        for part in intent.parts:
            low, high = ranges.ids(self._partition, part)
            bound = query("count_ids").of_platform(
                table=TABLES[part.kind], low=low, high=high, partition=self._partition
            )
            rows = await self._engine.async_query(bound.sql, bound.parameters, row=tuple[int])
            found[part.kind] = rows[0][0]
        try:
            left = ranges.left_of(intent, found, now_ms)
        except HalfThereError:
            raise IntentError(
                f"partition {self._partition}: the range {intent.first_offset}-{intent.next_offset} recorded "
                f"at {intent.at_ms} is only partly in ClickHouse, and too old to be sent again: see "
                "docs/operations.md, «A sink range is half there»."
            ) from None
        if left is not None:
            await self._record(left)
        return left

    async def _read(self, intent: Intent) -> list[tuple[int, JournalRecord]]:
        """Return a recorded range's records, read again from the journal."""
        place = TopicPartition(topics.JOURNAL, self._partition)
        found: list[tuple[int, JournalRecord]] = []
        async with started_consumer(
            self._kafka, max_partition_fetch_bytes=topics.OUTPUT_BYTES_MAX
        ) as consumer:
            consumer.assign([place])
            consumer.seek(place, intent.first_offset)
            while not found or found[-1][0] + 1 < intent.next_offset:
                batches = await consumer.getmany(place, timeout_ms=500)
                found += [
                    (record.offset, read_headers(record.headers, record.value))
                    for record in batches.get(place, ())
                    if record.offset < intent.next_offset
                ]
        return found


def _now_ms() -> int:
    return int(time.time() * 1000)


def sink_group(deployment: str) -> str:
    """Return the consumer group of a deployment's sinks."""
    return f"{deployment}-sink"

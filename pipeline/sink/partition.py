"""Write one partition's journal into ClickHouse: take the steps of the sink's protocol with real parts.

Owns: what waits to be written, how long it gathers, how each step is taken, and what is measured.
Called by: `sink/sink.py`. Next: `sink/protocol.py` has the steps in their order, `clickhouse/client.py` inserts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar, assert_never

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import telemetry, topics
from pipeline.clickhouse import fill, lost, whose
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import DEDUPLICATION_WINDOW
from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.driving import drive
from pipeline.inserts import JournalInsert
from pipeline.journal import JournalRecord, read_headers
from pipeline.kafka.bounded import last_headers
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.extent import check_beginnings, check_ends
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.topic_ids import topic_ids
from pipeline.sink import ranges
from pipeline.sink.budget import ByteBudget, held_bytes
from pipeline.sink.pace import INSERTS_A_SECOND
from pipeline.sink.protocol import RangeWriter
from pipeline.sink.steps import (
    AdoptDatabase,
    CompleteRollUps,
    CountRows,
    FillRollUps,
    Insert,
    LookAtDatabase,
    MayHaveLost,
    NotConfirmedError,
    NothingIsUnderWay,
    Pause,
    Placed,
    PrepareStaging,
    PutBack,
    ReadJournal,
    RollUpsLack,
    SinkStep,
)
from pipeline.steps import (
    Commit,
    ConfirmOwner,
    Fence,
    LastHeaders,
    Now,
    Reached,
    Restore,
    TopicIds,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

LINGER_S = 0.25
"""How long rows gather before they are inserted, at the least: see `sink/pace.py`."""
LINGER_MAX_S = 2.0
ROW_BYTES = 200
"""What a row of a recorded range takes in the journal, until it is read: 60 bytes as a block, 150 as JSON, seldom more."""
RECORDED_BYTES_MAX = 40 * 1024 * 1024
"""A range that release 0.1.0 has recorded has 32 MiB and one record at most; one of this release a quarter."""


class SinkPartition:
    """Writes one partition of the journal into ClickHouse."""

    def __init__(
        self,
        kafka: KafkaConnection,
        deployment: str,
        partition: int,
        engine: Engine,
        budget: ByteBudget,
        turn_s: Callable[[], float],
        written: Callable[[int], None] = lambda _partition: None,
    ) -> None:
        """Prepare; nothing is connected before `open`.

        The partition has joined the `budget`. `turn_s` takes a turn to insert and returns in how many seconds it
        comes. `written` is called after each range with the partition.
        """
        self._kafka = kafka
        self._partition = partition
        self._engine, self._written = engine, written
        self._budget, self._turn_s = budget, turn_s
        safe_ms = ranges.safe_age_ms(DEDUPLICATION_WINDOW, INSERTS_A_SECOND)
        self._writer = RangeWriter(deployment, partition, safe_ms)
        self._log = FencedLog(kafka, f"{deployment}-sink-{partition}", role="sink")
        self._buffer: deque[tuple[int, JournalRecord, int]] = deque()
        self._buffered_bytes = 0
        self._recorded_bytes = 0
        """What is held of a recorded range that is finished."""
        self._changed = asyncio.Event()
        self._linger_s = LINGER_S
        self._recorded_at_s = 0.0
        self._in_hand_ms: int | None = None
        self.next_offset = 0
        """Everything below it is in ClickHouse."""
        self.problem: str | None = None

    async def open(self, *, has_hold: bool = False) -> int:
        """Fence the previous owner, finish the range it recorded last, and return the next offset.

        `has_hold` says that the caller is the rebuild that has the partition.
        """
        try:
            self.next_offset = await drive(self._writer.take_over(has_hold=has_hold), self._take)
        finally:
            self._budget.give_back(self._partition, self._recorded_bytes)
            self._recorded_bytes = 0
        return self.next_offset

    async def close(self) -> None:
        """Disconnect. What was not recorded stays in the journal for the next owner, who shows how far behind it is."""
        telemetry.SINK_BEHIND.remove(self._partition)
        await self._log.close()

    def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take journal records in. Whoever calls has asked the budget whether there is room for more."""
        for record in records:
            row = read_headers(record.headers, record.value)
            self._buffer.append((record.offset, row, record.timestamp))
            self._buffered_bytes += len(row.value)
        self._budget.take(self._partition, sum(held_bytes(len(record.value)) for record in records))
        self._changed.set()

    @property
    def waiting_since_ms(self) -> int | None:
        """When the oldest record that was taken in and is not written yet came into the journal; None without one."""
        if self._in_hand_ms is not None:
            return self._in_hand_ms
        return self._buffer[0][2] if self._buffer else None

    async def run(self) -> None:
        """Write ranges until cancelled. Raises what must end the sink."""
        while True:
            await self._changed.wait()
            if self._buffered_bytes < ranges.RANGE_BYTES_MAX:
                await asyncio.sleep(self._linger_s)
            await asyncio.sleep(self._turn_s())
            await self._write_next()

    async def _write_next(self) -> None:
        taken = self._next_records()
        oldest_ms, newest_ms = taken[0][2], taken[-1][2]
        records = [(offset, record) for offset, record, _ in taken]
        await drive(self._writer.write(records), self._take)
        self.next_offset = records[-1][0] + 1
        self._in_hand_ms = None
        self._budget.give_back(self._partition, sum(held_bytes(len(record.value)) for _, record in records))
        self._written(self._partition)
        # A busy engine gets fewer and larger inserts: for twice as long as the last one took, rows gather.
        self._linger_s = min(LINGER_MAX_S, max(LINGER_S, 2 * (time.monotonic() - self._recorded_at_s)))
        written_s = time.time()
        telemetry.SINK_BEHIND.labels(self._partition).set(max(0.0, written_s - newest_ms / 1000))
        telemetry.SINK_FRESHNESS.observe(max(0.0, written_s - oldest_ms / 1000))

    def _next_records(self) -> list[tuple[int, JournalRecord, int]]:
        taken: list[tuple[int, JournalRecord, int]] = []
        taken_bytes = 0
        while self._buffer and len(taken) < ranges.RANGE_RECORDS_MAX and taken_bytes < ranges.RANGE_BYTES_MAX:
            taken.append(self._buffer.popleft())
            taken_bytes += len(taken[-1][1].value)
        self._buffered_bytes -= taken_bytes
        self._in_hand_ms = taken[0][2]
        if not self._buffer:
            self._changed.clear()
        return taken

    async def _take(self, step: SinkStep) -> object:  # noqa: C901, PLR0911, PLR0912 - one case a step
        """Take a step of the protocol and return its answer."""
        match step:
            case Fence():
                await self._log.start()
            case Restore(place):
                return step.answered(await self._log.restore(place.topic, place.partition))
            case TopicIds(names):
                return step.answered(await topic_ids(self._kafka, names))
            case Commit():
                await self._log.commit(step.outputs)
                self._recorded_at_s = time.monotonic()
            case ConfirmOwner(place):
                await self._log.confirm_owner(place)
            case Reached(point):
                reach(point)
            case Now():
                return step.answered(_now_ms())
            case ReadJournal(first_offset, next_offset, rows):
                return step.answered(await self._read(first_offset, next_offset, rows))
            case LastHeaders(place):
                return step.answered(await last_headers(self._kafka, TopicPartition(*place)))
            case LookAtDatabase(first, last):
                return step.answered(await self._look(whose.place_of, self._partition, first, last))
            case AdoptDatabase(identity, epoch):
                await self._ask(whose.adopt, identity, epoch)
            case Insert(rows):
                await self._insert(rows)
            case CountRows(rows):
                return step.answered(await self._count(rows))
            case RollUpsLack(rows):
                return step.answered(await self._look(lost.roll_ups_lack, rows))
            case MayHaveLost(within_s):
                return step.answered(await self._ask(lost.may_have_lost, within_s))
            case NothingIsUnderWay():
                return step.answered(not self._engine.may_be_sent(self._partition))
            case PrepareStaging(rows):
                return step.answered(await self._ask(lost.prepare, rows))
            case PutBack(rows, staging):
                return step.answered(_counted(await self._look(lost.put_back, rows, staging)))
            case CompleteRollUps(rows):
                return step.answered(_counted(await self._look(lost.complete_roll_ups, rows)))
            case FillRollUps(last):
                return step.answered(await self._look(fill.fill, self._partition, last))
            case Pause(seconds, problem, is_refusal):
                self._tell(problem, is_refusal=is_refusal)
                await asyncio.sleep(seconds)
            case _:
                assert_never(step)
        return None

    async def _ask(self, call: Callable[Concatenate[Engine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the engine answers. Raises NotConfirmedError where it refuses or does not answer."""
        try:
            answer = await self._engine.writing(call, self._engine, *args, **kwargs)
        except EngineError as error:
            raise NotConfirmedError(str(error), is_refusal=True) from error
        except EngineUnavailable as error:
            raise NotConfirmedError(str(error), is_refusal=error.needs_operator) from error
        self.problem = None
        return answer

    async def _look(self, call: Callable[Concatenate[Engine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the engine answers once its replica has every row that was confirmed before. Raises as `_ask`."""

        def caught_up(engine: Engine) -> T:
            return engine.caught_up(call, *args, **kwargs)

        return await self._ask(caught_up)

    def _tell(self, problem: str, *, is_refusal: bool) -> None:
        """Count and tell what keeps the partition from being written.

        A refusal for certain is a fault of schema, grants or release: trying again does not mend it.
        """
        telemetry.SINK_RETRIES.inc()
        if is_refusal:
            telemetry.SINK_REFUSALS.inc()
            self.problem = f"partition {self._partition}: ClickHouse refuses for certain: {problem}"
            log.error("%s; an operator has to mend it, and until then it is tried again", self.problem)
        else:
            self.problem = f"partition {self._partition}: {problem}"
            log.warning("%s; it is asked again", self.problem)

    async def _insert(self, rows: JournalInsert) -> None:
        started = time.monotonic()
        self._engine.note_sent(self._partition)
        await self._ask(lost.insert, rows)
        telemetry.SINK_INSERT.observe(time.monotonic() - started)
        telemetry.SINK_ROWS.labels(rows.kind).inc(rows.rows)

    async def _count(self, rows: JournalInsert) -> int:
        found = await self._look(lost.count_rows, rows)
        if found > rows.rows:
            log.error("%s has %d rows of %s instead of %d", rows.table, found, rows.token, rows.rows)
        return found

    async def _read(self, first_offset: int, next_offset: int, rows: int) -> list[Placed]:
        """Return the journal's records from one offset up to before another, once there is room for so many rows.

        Raises InputCutOffError or InputShortenedError where the journal does not have them all.
        """
        place = TopicPartition(topics.JOURNAL, self._partition)
        found: list[Placed] = []
        guess = held_bytes(min(rows * ROW_BYTES, RECORDED_BYTES_MAX))
        await self._budget.wait_and_take(self._partition, guess)
        self._recorded_bytes = guess
        asking = started_consumer(self._kafka, max_partition_fetch_bytes=topics.OUTPUT_BYTES_MAX)
        async with asking as consumer:
            await check_beginnings(consumer, {place: first_offset})
            await check_ends(consumer, {place: next_offset})
            consumer.assign([place])
            consumer.seek(place, first_offset)
            while not found or found[-1][0] + 1 < next_offset:
                batches = await consumer.getmany(place, timeout_ms=500)
                found += [
                    (record.offset, read_headers(record.headers, record.value))
                    for record in batches.get(place, ())
                    if record.offset < next_offset
                ]
        self._recorded_bytes = sum(held_bytes(len(record.value)) for _, record in found)
        self._budget.take(self._partition, self._recorded_bytes)
        self._budget.give_back(self._partition, guess)
        return found


def _counted(put_back: int) -> int:
    telemetry.SINK_PUT_BACK.inc(put_back)
    return put_back


def _now_ms() -> int:
    return int(time.time() * 1000)


def sink_group(deployment: str) -> str:
    """Return the consumer group of a deployment's sinks."""
    return f"{deployment}-sink"

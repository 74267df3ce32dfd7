"""Make the database again from the journal, or its roll-ups from the rows, while debits go on.

Owns: the order of steps of both, and the hold that keeps sinks from writing meanwhile.
Called by: `cli/rebuild.py`, the operator's endpoints of the server. Next: `clickhouse/remake.py`.

Each command holds every partition of the sinks first: it fences their owner as a new owner would, and leaves a record by which
sinks wait. A command that was ended leaves the hold, so nothing is written into what is half made; run again it begins anew.
A new database is of a new epoch, so tokens of before mean nothing to it (ADR 9).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date

from aiokafka import TopicPartition
from msgspec import structs

from pipeline import topics
from pipeline.clickhouse import remake, whose
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError
from pipeline.clickhouse.shards import Database, check_partitions
from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.identity import DeploymentIdentity, MixedHistoriesError, check_name, of_headers
from pipeline.journal import JournalRecord, read_headers
from pipeline.kafka.bounded import ends_of, last_headers, read_to_end
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.topic_ids import topic_ids
from pipeline.settings import SinkSettings
from pipeline.sink import ranges
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.protocol import HOLD_KEY, INTENT_KEY, SETTLE_S
from pipeline.sink.ranges import Intent, RebuildHold
from pipeline.sink.sink import Sink
from pipeline.steps import Output, TopicPlace

log = logging.getLogger(__name__)

CLICKHOUSE = "metering rebuild clickhouse"
ROLL_UPS = "metering rebuild roll-ups"
LOOK_S = 0.2
SCANNED_OFFSETS = 1_000
"""So many of the journal's offsets are read through where a position is looked for."""
BUDGET_BYTES = 128 * 1024 * 1024


@dataclass
class Rebuilt:
    """What a rebuild made: how many rows of how many partitions, or the IST days of the roll-ups."""

    partitions: int
    rows: int = 0
    first_day: str | None = None
    last_day: str | None = None


@dataclass(frozen=True)
class _Held:
    """The partitions that are held, whose they are, the epoch that begins, and where each goes on."""

    identity: DeploymentIdentity
    epoch: int
    places: dict[int, Intent]


class Rebuild:
    """One run of a command."""

    def __init__(
        self, settings: SinkSettings, database: Database, work: str, reached: Callable[[str], None] = reach
    ) -> None:
        """Prepare; nothing is done yet. `reached` is told each step that is done."""
        self._settings, self._database, self._work, self._reached = settings, database, work, reached

    async def clickhouse(self) -> Rebuilt:
        """Empty the database and have the sinks write the journal into it again; return when they have.

        Raises MixedHistoriesError where the topics are another deployment's, and what Kafka or the engine raise.
        """
        partitions = await self._partitions()
        # 1. No sink writes any more, and what was sent has ended.
        held = await self._hold(partitions, finish=False)
        # 2. All tables are made anew, and say whose they are.
        await self._first.writing(remake.empty, self._database)
        self._reached("rebuild.emptied")
        await self._adopt(held)
        self._reached("rebuild.made")
        # 3. The sinks go on, from the journal's beginning.
        ends = await self._ends(partitions)
        await self._release(held)
        await self._until_written(ends)
        return Rebuilt(partitions, sum(end - 1 for end in ends.values()))

    async def from_backup(self) -> Rebuilt:
        """Keep the rows that a restored backup has, and have the sinks write what comes after them; return when they have.

        Of each partition the rows up to the first that is missing are kept, and the roll-ups are made again from the rows, as
        tables are not of one moment in a backup. Raises MixedHistoriesError where the topics are another deployment's, or the
        database has rows that the journal does not have, and what Kafka or the engine raise.
        """
        partitions = await self._partitions()
        for partition in range(partitions):
            await self._check_backup(partition)
        # 1. No sink writes any more, and what was sent has ended.
        held = await self._hold(partitions, finish=False)
        ends = await self._ends(partitions)
        # 2. What is kept of each partition ends with a record of the journal.
        kept = {partition: await self._keep(held, partition) for partition in ends}
        self._reached("rebuild.emptied")
        # 3. The sums are those of the rows that are there.
        days = await self._days(remake.days_with_sums_or_rows)
        if days:
            await self._make_roll_ups(days[0], days[-1])
        await self._adopt(held)
        self._reached("rebuild.made")
        # 4. The sinks go on after the rows that were kept.
        await self._release(held)
        await self._until_written(ends)
        return Rebuilt(partitions, sum(end - 1 - kept[partition] for partition, end in ends.items()))

    @property
    def _first(self) -> Engine:
        return self._database.shards[0]

    async def _partitions(self) -> int:
        """Return how many there are. Raises ShardsError where the shards cannot share them."""
        partitions = await partition_count(self._settings.kafka)
        check_partitions(self._database, partitions)
        return partitions

    async def _check_backup(self, partition: int) -> None:
        """Raise MixedHistoriesError where the database is another deployment's, or has rows that the journal does not have."""
        engine = self._database.of_partition(partition)
        found = await engine.writing(whose.place_of, engine, partition, 1, 0)
        last = await last_headers(self._settings.kafka, TopicPartition(topics.JOURNAL, partition))
        end, ours = (1, None) if last is None else (read_headers(last, b"").last + 1, of_headers(last))
        others = [owner for owner, _ in found.owners if ours is not None and not owner.is_of(ours)]
        if others or found.highest >= end:
            raise MixedHistoriesError(
                f"the database is of {others or 'this deployment'}, with rows of partition {partition} up to position "
                f"{found.highest}, but {topics.JOURNAL} is of {ours} and ends before {end}: the backup is of another history. "
                f"Nothing was changed; `{CLICKHOUSE}` makes the database again from the journal."
            )

    async def _keep(self, held: _Held, partition: int) -> int:
        """Note where a partition goes on, delete what is after that, and return up to which position its rows are kept."""
        engine = self._database.of_partition(partition)
        highest = (await engine.writing(whose.place_of, engine, partition, 1, 0)).highest
        position = await engine.writing(whose.unbroken_up_to, engine, partition, highest)
        offset, first = await journal_place(self._settings.kafka, partition, position + 1)
        if first <= highest:
            await engine.writing(remake.drop_rows_after, engine, partition, first - 1)
        held.places[partition] = structs.replace(
            held.places[partition], first_offset=offset, next_offset=offset, position=first
        )
        return first - 1

    async def roll_ups(self, first: date | None, last: date | None) -> Rebuilt:
        """Make the sums of these IST days again from the rows, those of all days that have rows where none is given.

        Raises as `clickhouse` does.
        """
        partitions = await self._partitions()
        # 1. Each sink's last range is whole, and nothing follows it.
        held = await self._hold(partitions, finish=True)
        # 2. What is summed is the rows that are there, once.
        days = await self._days(remake.days_with_rows)
        bounds = (first or days[0], last or days[-1]) if days or (first and last) else None
        if bounds is not None:
            await self._make_roll_ups(*bounds)
        self._reached("rebuild.made")
        # 3. Tokens of the former sums may be forgotten, so the sinks go on after the range, and do not send it again.
        await self._release(held)
        shown = (None, None) if bounds is None else tuple(map(str, bounds))
        return Rebuilt(partitions, 0, *shown)

    async def _make_roll_ups(self, first: date, last: date) -> None:
        def replaced() -> None:
            self._reached("rebuild.replaced")

        for engine in self._database.shards:
            await engine.writing(remake.make_roll_ups, engine, first, last, replaced)

    async def _days(self, asked: Callable[[Engine], list[date]]) -> list[date]:
        """Return the days that any shard names, oldest first."""
        found = {day for engine in self._database.shards for day in await engine.writing(asked, engine)}
        return sorted(found)

    async def _adopt(self, held: _Held) -> None:
        for engine in self._database.shards:
            await engine.writing(whose.adopt, engine, held.identity, held.epoch)

    async def _hold(self, partitions: int, *, finish: bool) -> _Held:
        """Take every partition from its sink. With `finish` the range that was recorded last is written first."""
        journal_id = (await topic_ids(self._settings.kafka, [topics.JOURNAL])).get(topics.JOURNAL)
        identity = await self._identity(partitions, journal_id or "")
        epoch = await self._last_epoch(partitions) + (0 if finish else 1)
        places = {}
        for partition in range(partitions):
            hold = RebuildHold(self._work, _now_ms(), epoch)
            if finish:
                places[partition] = await self._finished(partition, hold)
            else:
                places[partition] = Intent(0, 0, hold.at_ms, (), journal_id, str(identity), epoch)
                await self._write(partition, [Output(HOLD_KEY, ranges.encode(hold))])
            self._reached("rebuild.holding")
        # An embedded engine has no writer outside this process; of another server's nobody knows what is on its way.
        for engine in self._database.shards:
            await engine.written()
        if not self._first.is_embedded:
            await asyncio.sleep(SETTLE_S)
        self._reached("rebuild.held")
        return _Held(identity, epoch, places)

    async def _finished(self, partition: int, hold: RebuildHold) -> Intent:
        """Hold a partition, write its last range as its sink would, and return the place after that range.

        The hold comes first: a sink that is fenced takes its partition over anew, and would fence this owner.
        """
        await self._write(partition, [Output(HOLD_KEY, ranges.encode(hold))])
        budget = ByteBudget(BUDGET_BYTES)
        budget.join(partition)
        settings = self._settings
        owner = SinkPartition(
            *(settings.kafka, settings.deployment, partition, self._database.of_partition(partition)),
            *(budget, lambda: 0.0),
        )
        try:
            await owner.open(has_hold=True)
        finally:
            await owner.close()
        kept = (await self._state(partition)).get(INTENT_KEY)
        if kept is None:
            return Intent(0, 0, hold.at_ms, ())
        intent = ranges.decode(kept)
        position = max([intent.position, *(part.last + 1 for part in intent.parts)])
        return structs.replace(intent, first_offset=intent.next_offset, parts=(), position=position)

    async def _release(self, held: _Held) -> None:
        for partition, place in held.places.items():
            await self._write(partition, [Output(INTENT_KEY, ranges.encode(place)), Output(HOLD_KEY, None)])
            self._reached("rebuild.releasing")
        self._reached("rebuild.released")

    async def _identity(self, partitions: int, journal_id: str) -> DeploymentIdentity:
        found = DeploymentIdentity(self._settings.deployment, journal_id)
        for partition in range(partitions):
            last = of_headers(
                await last_headers(self._settings.kafka, TopicPartition(topics.JOURNAL, partition))
            )
            check_name(self._settings.deployment, f"{topics.JOURNAL}/{partition}", last)
            found = last or found
        return found

    async def _last_epoch(self, partitions: int) -> int:
        epochs = [ranges.FIRST_EPOCH]
        for partition in range(partitions):
            state = await self._state(partition)
            if INTENT_KEY in state:
                epochs.append(ranges.decode(state[INTENT_KEY]).epoch)
            if HOLD_KEY in state:
                epochs.append(ranges.decode_hold(state[HOLD_KEY]).epoch)
        for engine in self._database.shards:
            try:
                found = await engine.writing(whose.place_of, engine, 0, 1, 0)
            except EngineError:
                # The tables are not there, or not as they should be: that is what they are made again for.
                log.warning("the database does not say of which epoch it is")
            else:
                epochs += [epoch for _, epoch in found.owners]
        return max(epochs)

    async def _state(self, partition: int) -> dict[bytes, bytes]:
        return await read_compacted(self._settings.kafka, TopicPartition(topics.SINK_STATE, partition))

    async def _write(self, partition: int, records: list[Output]) -> None:
        """Write a partition's state as its new owner: from then on no earlier one records a range."""
        fenced = FencedLog(
            self._settings.kafka, f"{self._settings.deployment}-sink-{partition}", role="rebuild"
        )
        try:
            await fenced.start()
            await fenced.commit({TopicPlace(topics.SINK_STATE, partition): records})
        finally:
            await fenced.close()

    async def _ends(self, partitions: int) -> dict[int, int]:
        """Return the next position of each partition of the journal, as it is now."""
        ends = {}
        for partition in range(partitions):
            last = await last_headers(self._settings.kafka, TopicPartition(topics.JOURNAL, partition))
            ends[partition] = 1 if last is None else read_headers(last, b"").last + 1
        return ends

    async def _until_written(self, ends: dict[int, int]) -> None:
        """Return when the database has all rows before these positions, and its roll-ups too.

        A sink of ours joins the group for that: the others learn by it that they have to take their partitions over anew.
        """
        helping = asyncio.create_task(self._help())
        try:
            for partition, end in ends.items():
                engine = self._database.of_partition(partition)
                while not await engine.writing(whose.is_written, engine, partition, end):
                    if helping.done():
                        helping.result()
                    await asyncio.sleep(LOOK_S)
        finally:
            helping.cancel()
            await asyncio.wait([helping])

    async def _help(self) -> None:
        # Under a name of its own: that of its instance is the one of the sink beside it.
        await Sink(self._settings.model_copy(update={"instance": None}), self._database).run()


async def journal_place(kafka: KafkaConnection, partition: int, position: int) -> tuple[int, int]:
    """Return the offset and the first position of the journal's record that has a position; its end where none has.

    Positions rise with the offsets, so a few of them are looked at, and not the journal read.
    """
    place = TopicPartition(topics.JOURNAL, partition)
    end = (await ends_of(kafka, [place]))[place]
    low, high = 0, end
    while high - low > SCANNED_OFFSETS:
        middle = (low + high) // 2
        found = await _first_record(kafka, place, middle)
        if found is None or found[1].first > position:
            high = middle
        else:
            low = found[0]
    async with aclosing(read_to_end(kafka, place, start=low)) as batches:
        async for records in batches:
            for record in records:
                row = read_headers(record.headers, b"")
                if row.last >= position:
                    return record.offset, row.first
    # The end as it was before all below it was looked at: what workers append meanwhile comes after.
    return end, position


async def _first_record(
    kafka: KafkaConnection, place: TopicPartition, start: int
) -> tuple[int, JournalRecord] | None:
    async with aclosing(read_to_end(kafka, place, start=start)) as batches:
        async for records in batches:
            return records[0].offset, read_headers(records[0].headers, b"")
    return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

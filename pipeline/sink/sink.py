"""Run the sink: one writer for each partition that the consumer group assigns to this process.

Owns: the writers' tasks, and what they share: memory and turns. Called by: `sink/main.py` alone, or `api/server/main.py` beside the API.
Next: `sink/partition.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from pipeline import topics
from pipeline.clickhouse.client import Engine, EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import is_up_to_date, migrate
from pipeline.clickhouse.shards import Database, check_partitions
from pipeline.kafka.attempts import error_of
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.reader import GroupReader
from pipeline.partitioning import partition_of
from pipeline.settings import SinkSettings
from pipeline.sink.budget import ByteBudget
from pipeline.sink.pace import Pace, turns_a_second
from pipeline.sink.partition import SinkPartition, sink_group

log = logging.getLogger(__name__)

MIB = 1024 * 1024
FETCH_BYTES = MIB // 4
"""Of one partition, compressed, at once: several times as large when it is taken."""
MIGRATE_RETRY_S = 1.0


class Sink:
    """Writes the partitions that the group assigns, until cancelled."""

    def __init__(self, settings: SinkSettings, database: Database) -> None:
        """Prepare; nothing is connected before `run`."""
        self._settings, self._database = settings, database
        self._count = 0
        self._waiting: str | None = None
        self._opening: dict[int, SinkPartition] = {}
        self._partitions: dict[int, tuple[SinkPartition, asyncio.Task[None]]] = {}
        self._reader = GroupReader(
            settings.kafka,
            sink_group(settings.deployment),
            [topics.JOURNAL],
            self,
            fetch_bytes=FETCH_BYTES,
            instance=settings.instance,
            interruptible=True,
            done=self._next_offsets,
        )
        self._reader.watch_as("sink")
        self._budget = ByteBudget(settings.sink_memory_mib * MIB, self._reader.ask_for_room)
        self._paces = {engine: Pace() for engine in database.shards}
        self._reader.take_together(self._budget.may_take)

    async def run(self) -> None:
        """Bring the schema up to date, then read and write until cancelled.

        An engine that is away or will not have us is waited for: of several shards only until one is as it should be, as each
        partition waits for its own. Raises what must end the process, ShardsError too.
        """
        await self._migrate()
        self._count = await partition_count(self._settings.kafka)
        check_partitions(self._database, self._count)
        await self._reader.run()

    async def _migrate(self) -> None:
        while True:
            try:
                await self._database.shards[0].writing(migrate, self._database)
            except (EngineError, EngineUnavailable) as error:
                if isinstance(error, EngineError) and not error.needs_operator:
                    raise
                waiting = f"the schema cannot be looked at: {error}"
                if waiting != self._waiting:
                    level = logging.ERROR if error.needs_operator else logging.WARNING
                    log.log(level, "the sink waits for ClickHouse, and asks again every second: %s", error)
                self._waiting = waiting
                if await self._has_a_shard():
                    self._waiting = None
                    return
                await asyncio.sleep(MIGRATE_RETRY_S)
            else:
                self._waiting = None
                return

    async def _has_a_shard(self) -> bool:
        """Whether there are other shards than the one that is away, and any of them has the schema of this release."""
        shards = self._database.shards
        if len(shards) == 1:
            return False
        return any([await shard.writing(is_up_to_date, shard) for shard in shards])

    async def open(self, partition: int) -> Mapping[str, int]:
        """Take a partition over; see `kafka/reader.py`."""
        settings = self._settings
        self._budget.join(partition)
        engine = self._database.of_partition(partition)
        writer = SinkPartition(
            *(settings.kafka, settings.deployment, partition, engine, self._budget),
            lambda: self._turn_s(engine),
            self._reader.report_done,
        )
        self._opening[partition] = writer
        try:
            offset = await writer.open()
        except BaseException:
            await writer.close()
            self._budget.leave(partition)
            raise
        finally:
            del self._opening[partition]
        task = asyncio.create_task(writer.run())
        task.add_done_callback(lambda ended: self._ended(partition, ended))
        self._partitions[partition] = writer, task
        return {topics.JOURNAL: offset}

    async def process(self, _topic: str, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Hand records to the partition's writer."""
        self._partitions[partition][0].add(records)

    async def close(self, partition: int) -> None:
        """Stop the partition's writer at once. The next owner sends again what it had recorded."""
        if partition not in self._partitions:
            return
        writer, task = self._partitions.pop(partition)
        task.cancel()
        await asyncio.wait([task], timeout=30)
        await writer.close()
        self._budget.leave(partition)

    def _turn_s(self, engine: Engine) -> float:
        """Take a turn to insert into a shard, and return in how many seconds it comes."""
        mine = (*self._partitions, *self._opening)
        owned = sum(self._database.of_partition(partition) is engine for partition in mine)
        of_shard = self._count // len(self._database.shards)
        return self._paces[engine].wait_s(time.monotonic(), turns_a_second(owned, of_shard))

    def _next_offsets(self, partition: int) -> Mapping[str, int]:
        """Return the offset up to which a partition is in ClickHouse, for the group."""
        if partition not in self._partitions:
            return {}
        writer, _ = self._partitions[partition]
        if writer.waiting_since_ms is not None:
            return {topics.JOURNAL: writer.next_offset}
        return {topics.JOURNAL: self._reader.past_markers(partition, topics.JOURNAL, writer.next_offset)}

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        if (error := error_of(task)) is not None:
            self._reader.lose(partition, error)

    def behind_ms(self, org: str, now_ms: int) -> int | None:
        """Return how long the oldest row waits that may be an org's and is not in ClickHouse; 0 where none does.

        None where another sink writes the org's partition, or none has it open yet.
        """
        owned = self._partitions.get(partition_of(org, self._count)) if self._count else None
        if owned is None:
            return None
        since_ms = owned[0].waiting_since_ms
        return 0 if since_ms is None else max(0, now_ms - since_ms)

    @property
    def problem(self) -> str | None:
        """What keeps the sink from writing, None where nothing does."""
        writers = [*self._opening.values(), *(writer for writer, _ in self._partitions.values())]
        problems = [problem for problem in (self._waiting, *(one.problem for one in writers)) if problem]
        if problems:
            return problems[0]
        return self._reader.problem

"""The sink as a member of its group: partitions come and go, each with a writer of its own.

Owns: the writers' tasks. Called by: `sink/main.py` alone, or `api/main.py` beside the API.
Next: `sink/partition.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from pipeline import topics
from pipeline.clickhouse.client import Engine
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.reader import GroupReader
from pipeline.settings import Settings
from pipeline.sink.partition import SinkPartition, sink_group

FETCH_BYTES = 16 * 1024 * 1024


class Sink:
    """Writes the partitions that the group assigns, until cancelled."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        """Prepare; nothing is connected before `run`."""
        self._settings, self._engine = settings, engine
        self._count = 0
        self._partitions: dict[int, tuple[SinkPartition, asyncio.Task[None]]] = {}
        self._reader = GroupReader(
            settings.kafka_servers,
            sink_group(settings.deployment),
            [topics.JOURNAL],
            self,
            fetch_bytes=FETCH_BYTES,
            instance=settings.instance,
            interruptible=True,
        )

    async def run(self) -> None:
        """Read and write until cancelled. Raises what must end the process."""
        self._count = await partition_count(self._settings.kafka_servers)
        await self._reader.run()

    async def open(self, partition: int) -> Mapping[str, int]:
        """Take a partition over; see `kafka/reader.py`."""
        settings = self._settings
        writer = SinkPartition(
            settings.kafka_servers, settings.deployment, partition, self._count, self._engine
        )
        try:
            offset = await writer.open()
        except BaseException:
            await writer.close()
            raise
        task = asyncio.create_task(writer.run())
        task.add_done_callback(self._ended)
        self._partitions[partition] = writer, task
        return {topics.JOURNAL: offset}

    async def process(self, _topic: str, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Hand records to the partition's writer."""
        await self._partitions[partition][0].add(records)

    async def close(self, partition: int) -> None:
        """Stop the partition's writer where it is: what it recorded, the next owner sends again."""
        if partition not in self._partitions:
            return
        writer, task = self._partitions.pop(partition)
        task.cancel()
        await asyncio.wait([task], timeout=30)
        await writer.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._reader.fail(error)

    @property
    def problem(self) -> str | None:
        """What keeps the sink from writing, None where nothing does."""
        if not self._reader.joined:
            return "joining the group"
        problems = [writer.problem for writer, _ in self._partitions.values() if writer.problem]
        return problems[0] if problems else None

"""Make the workers' state again where its topic is lost or damaged: `metering rebuild state`.

Owns: taking the steps with a real Kafka, partition by partition. Called by: `cli/rebuild.py`.
Next: `posting/rebuilding.py` has the steps in their order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import assert_never

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.driving import drive
from pipeline.journal import JournalRecord, read_headers
from pipeline.kafka.bounded import last_headers, read_to_end
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.topic_ids import topic_ids
from pipeline.posting import rebuilding
from pipeline.posting.rebuilding import NextJournalRecords, RebuildStep, RebuiltState
from pipeline.settings import Settings
from pipeline.steps import Commit, Fence, LastHeaders, Reached, Restore, TopicIds


async def rebuild_state(settings: Settings, *, whole_too: bool) -> RebuiltState:
    """Make the state of every partition again that is not whole, or of all with `whole_too`; return what was made.

    No worker may run. Raises StateError where it cannot be made, ProducerFenced where a worker has started meanwhile,
    MixedHistoriesError, AnotherTopicError, NewerFormatError, and what Kafka raises.
    """
    report = RebuiltState()
    partitions = await partition_count(settings.kafka)
    for partition in range(partitions):
        steps = _RebuildSteps(settings.kafka, settings.deployment, partition)
        work = rebuilding.rebuild(settings.deployment, partition, partitions, report, whole_too=whole_too)
        try:
            await drive(work, steps.take)
        finally:
            await steps.close()
    return report


class _RebuildSteps:
    """Takes the steps for one partition, as its worker's successor."""

    def __init__(self, kafka: KafkaConnection, deployment: str, partition: int) -> None:
        self._kafka, self._partition = kafka, partition
        self._log = FencedLog(kafka, f"{deployment}-{partition}", role="state")
        self._journal: AsyncIterator[Sequence[JournalRecord]] | None = None

    async def close(self) -> None:
        """Disconnect."""
        await self._log.close()

    async def take(self, step: RebuildStep) -> object:
        """Take a step of the protocol and return its answer."""
        match step:
            case Fence():
                await self._log.start()
            case Restore(place):
                return step.answered(await self._log.restore(*place))
            case TopicIds(names):
                return step.answered(await topic_ids(self._kafka, names))
            case LastHeaders(place):
                return step.answered(await last_headers(self._kafka, TopicPartition(*place)))
            case NextJournalRecords():
                self._journal = self._journal or self._read()
                return step.answered(await anext(self._journal, None))
            case Commit():
                await self._log.commit(step.outputs)
            case Reached(point):
                reach(point)
            case _:
                assert_never(step)
        return None

    async def _read(self) -> AsyncIterator[Sequence[JournalRecord]]:
        async for records in read_to_end(self._kafka, TopicPartition(topics.JOURNAL, self._partition)):
            yield [read_headers(record.headers, record.value) for record in records]

"""Compare the ends of state, journal and inputs again and again while their partitions are being worked on.

Owns: when which partition is compared, reading the ends, and the gauges that say what came of it.
Called by: `worker/service.py`. Next: `posting/ends.py` compares.

A topic that is cut short or made anew under a running worker harms nothing that is in its memory, and would be found by
the next start: too late to mend it in peace. So it is looked for each hour, and a difference is a page. Taking a
partition over has compared all of it, so the first look comes within an hour.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping

from aiokafka import TopicPartition

from pipeline import telemetry, topics
from pipeline.connection import KafkaConnection
from pipeline.journal import read_headers
from pipeline.kafka.attempts import unreached
from pipeline.kafka.bounded import ends_of, last_headers, last_of_key
from pipeline.kafka.topic_ids import topic_ids
from pipeline.posting.ends import PartitionEnds, differences
from pipeline.posting.protocol import OWN_TOPICS
from pipeline.posting.state import META_KEY, Meta, read_meta

log = logging.getLogger(__name__)

LOOK_S = 1.0
AGAIN_S = 60.0
"""Soon again where it differed, or could not be read: what was mended is not told for another hour."""
LOOKS = 3
"""A difference has to be seen so often in a row: markers of one transaction reach its topics one after the other."""
LOOK_AGAIN_S = 0.5


class EndsWatch:
    """When each owned partition is compared next, and what its topics were when it was taken over."""

    def __init__(self, kafka: KafkaConnection, every_s: float) -> None:
        """Prepare to compare each partition every so many seconds; nothing is connected before `run`."""
        self._kafka, self._every_s = kafka, every_s
        self._due_s: dict[int, float] = {}
        self._known_ids: dict[int, Mapping[str, str]] = {}

    def opened(self, partition: int, ids: Mapping[str, str]) -> None:
        """Note that a partition was taken over, which has compared it, and the ids of its topics."""
        # Not all partitions of a worker at one moment.
        self._due_s[partition] = time.monotonic() + self._every_s * random.uniform(0.5, 1)  # noqa: S311
        self._known_ids[partition] = ids
        _show(partition, differs=False)

    def closed(self, partition: int) -> None:
        """Note that a partition is not ours any more: its next owner shows it."""
        self._due_s.pop(partition, None)
        self._known_ids.pop(partition, None)
        telemetry.ENDS_DIFFER.remove(partition)
        telemetry.ENDS_COMPARED.remove(partition)

    async def run(self) -> None:
        """Compare what is due until cancelled."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._every_s))
            due = [partition for partition, at_s in self._due_s.items() if at_s <= time.monotonic()]
            for partition in due:
                await self._compare(partition)

    async def _compare(self, partition: int) -> None:
        found: list[str] | None = None

        async def look() -> None:
            nonlocal found
            found = await self.look(partition, self._known_ids.get(partition, {}))

        error = await unreached(look(), f"comparing the ends of partition {partition}")
        if error is not None:
            log.warning("the ends of partition %d could not be read: %r", partition, error)
        if partition not in self._due_s:
            return
        self._due_s[partition] = time.monotonic() + (
            self._every_s if found == [] else min(AGAIN_S, self._every_s)
        )
        if found is None:
            return
        _show(partition, differs=bool(found))
        if found:
            log.error(
                "partition %d: %s. See docs/operations.md, «State, journal and inputs do not end together».",
                partition,
                "; ".join(found),
            )

    async def look(self, partition: int, known_ids: Mapping[str, str]) -> list[str]:
        """Return what differs, seen several times in a row. Raises a KafkaError or TimeoutError."""
        for looks_left in reversed(range(LOOKS)):
            found = differences(await self._read(partition, known_ids))
            if not found or not looks_left:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        return found

    async def _read(self, partition: int, known_ids: Mapping[str, str]) -> PartitionEnds:
        ids = await topic_ids(self._kafka, OWN_TOPICS) if known_ids else {}
        before = await self._journal_position(partition)
        kept = await last_of_key(self._kafka, TopicPartition(topics.STATE, partition), META_KEY)
        meta = Meta(partitions=0) if kept is None else read_meta(kept)
        after = await self._journal_position(partition)
        places = [TopicPartition(name, partition) for name in topics.INPUTS]
        ends = await ends_of(self._kafka, places)
        return PartitionEnds(
            journal_before=before,
            state_position=meta.position,
            state_offsets=meta.offsets,
            journal_after=after,
            inputs={place.topic: end for place, end in ends.items()},
            known_ids=known_ids,
            ids=ids,
        )

    async def _journal_position(self, partition: int) -> int:
        headers = await last_headers(self._kafka, TopicPartition(topics.JOURNAL, partition))
        return 1 if headers is None else read_headers(headers, b"").last + 1


def _show(partition: int, *, differs: bool) -> None:
    telemetry.ENDS_DIFFER.labels(partition).set(differs)
    telemetry.ENDS_COMPARED.labels(partition).set(time.time())

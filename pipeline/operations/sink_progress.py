"""How far the sink has come, and whether rows that are not there yet may still be on their way.

Owns: that judgement, and how long a check waits for the sink in all.
Called by: `operations/verify.py`. Next: `sink/ranges.py` has the recorded ranges.

The sink records a range before it inserts it, and records the next one when the engine has confirmed it. So rows below
its newest range are there or lost; rows of that range may be under way; and what it has not recorded is still to come.
"""

from __future__ import annotations

import asyncio
import time

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.fenced import read_compacted
from pipeline.sink import ranges
from pipeline.sink.protocol import INTENT_KEY

BEHIND_LIMIT_S = 60.0
"""So long, over all partitions together, a check waits for a sink that is behind."""
UNDER_WAY_LIMIT_S = 5.0
"""And so long for rows whose insert may be under way."""
LOOK_AGAIN_S = 0.5


class SinkProgress:
    """The sink's recorded ranges, and how long it may still be waited for."""

    def __init__(
        self,
        kafka: KafkaConnection,
        *,
        behind_s: float = BEHIND_LIMIT_S,
        under_way_s: float = UNDER_WAY_LIMIT_S,
    ) -> None:
        """Wait `behind_s` for a sink that is behind and `under_way_s` for inserts under way, each in all."""
        self._kafka = kafka
        self._behind_s, self._under_way_s = behind_s, under_way_s

    async def may_write(self, partition: int, position: int, lacking: int) -> bool:
        """Whether `lacking` rows up to a position of the journal may still come; waits a moment where they may."""
        records = await read_compacted(self._kafka, TopicPartition(topics.SINK_STATE, partition))
        parts = ranges.decode(records[INTENT_KEY]).parts if INTENT_KEY in records else ()
        started = time.monotonic()
        if max((part.last for part in parts), default=0) < position:
            await asyncio.sleep(LOOK_AGAIN_S)
            self._behind_s -= time.monotonic() - started
            return self._behind_s > 0
        if lacking > sum(part.rows for part in parts):
            return False
        await asyncio.sleep(LOOK_AGAIN_S)
        self._under_way_s -= time.monotonic() - started
        return self._under_way_s > 0

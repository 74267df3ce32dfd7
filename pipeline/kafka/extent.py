"""Whether a log still has what its reader counts on: it begins no later than what is read next, and ends no earlier.

Owns: that comparison, and what it says. Called by: `kafka/reader.py`, `sink/partition.py`, `operations/redrive.py`.

A log that begins above the next offset has lost records that were never read. One that ends below it is not the log
that was read: it was made anew, or restored to an earlier moment. Read on at its end, everything that is written
before it has grown to the old length would be passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

ASKS_MAX = 10
ASK_AGAIN_S = 0.5
"""A leader that has just taken over may not know yet up to where its log is committed."""


class InputCutOffError(Exception):
    """Records that were never read are gone from an input: retention was shorter than the lag."""


class InputShortenedError(Exception):
    """An input ends below what was read of it: it is not the log that it was."""


async def check_beginnings(consumer: AIOKafkaConsumer, next_offsets: Mapping[TopicPartition, int]) -> None:
    """Raise InputCutOffError where a log begins above the offset that is read next."""
    beginnings = await consumer.beginning_offsets(list(next_offsets))
    for place, offset in next_offsets.items():
        if beginnings[place] > offset:
            raise InputCutOffError(
                f"{place.topic}/{place.partition} begins at {beginnings[place]}, but {offset} is the next "
                "to read: records were deleted before they were read. Restore them, or accept the loss "
                "as docs/operations.md tells."
            )


async def check_ends(consumer: AIOKafkaConsumer, read_up_to: Mapping[TopicPartition, int]) -> None:
    """Raise InputShortenedError where a log ends below the offset up to which it was read."""
    for _ in range(ASKS_MAX):
        ends = await consumer.end_offsets(list(read_up_to))
        short = [place for place, offset in read_up_to.items() if ends[place] < offset]
        if not short:
            return
        await asyncio.sleep(ASK_AGAIN_S)
    told = ", ".join(
        f"{place.topic}/{place.partition} ends at {ends[place]}, but was read up to {read_up_to[place]}"
        for place in short
    )
    raise InputShortenedError(
        f"{told}: the topic was made anew, restored to an earlier moment, or lost its tail. Going on would pass over "
        "what is written until it is as long as before. See docs/operations.md, «a topic ends below what was read»."
    )

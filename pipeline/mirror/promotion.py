"""Make a copy the deployment's own: once the first cluster is lost or stopped, workers go on from it.

Owns: when a copy may be promoted, the order in which that is done, and what is known to be in it.
Called by: `cli/mirror.py`. Next: `mirror/writing.py`.
"""

from __future__ import annotations

import time

from aiokafka import TopicPartition
from msgspec import Struct

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.ist import isoformat
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.mirror import progress
from pipeline.mirror.copier import PLACE
from pipeline.mirror.progress import HEAD_KEY, MirrorHead
from pipeline.mirror.records import AHEAD
from pipeline.mirror.writing import Copied, MirrorError, started_writer
from pipeline.posting.state import COPY_KEY
from pipeline.settings import CommonSettings
from pipeline.steps import TopicPlace


class CopyTold(Struct):
    """What a copy holds: all that the first cluster had taken by `as_of`, and by partition the inputs before these offsets.

    The offsets are the first cluster's: what it had at or after them is not in the copy.
    """

    source: str
    as_of: str
    age_s: float
    usable: bool
    promoted: bool
    copied_before: dict[str, int]


async def told(target: KafkaConnection) -> CopyTold:
    """Return what a copy holds. Raises MirrorError where there is none, NewerFormatError."""
    return _told(await read_compacted(target, TopicPartition(*PLACE)), target)


async def promote(target: KafkaConnection, settings: CommonSettings) -> CopyTold:
    """Make the copy the deployment's own and return what it holds. Safe to repeat.

    Whoever still copies is fenced first. Raises MirrorError where there is no copy or it is written in part.
    """
    partitions = await partition_count(target)
    async with started_writer(target, settings.deployment) as writer:
        # 1. From here on nobody copies any more.
        kept = await read_compacted(target, TopicPartition(*PLACE))
        report = _told(kept, target)
        head = progress.decode_head(kept[HEAD_KEY])
        if not head.is_usable and not head.is_promoted:
            raise MirrorError(
                f"the copy at {target.servers} is written in part: it was catching up. Let `metering mirror` go on if "
                "the first cluster is there; else restore an older copy."
            )
        # 2. The broker's time stamps count again, before anybody writes.
        await ensure_topics(target, settings.model_copy(update={"partitions": partitions}))
        # 3. Workers may take the partitions over.
        head.is_promoted = True
        async with writer.transaction():
            for partition in range(partitions):
                await writer.send(TopicPlace(topics.STATE, partition), [Copied(COPY_KEY, None)])
            await writer.send(PLACE, [Copied(HEAD_KEY, progress.encode(head))])
    report.promoted = True
    return report


def _told(kept: dict[bytes, bytes], target: KafkaConnection) -> CopyTold:
    if HEAD_KEY not in kept:
        raise MirrorError(f"there is no copy at {target.servers}")
    head: MirrorHead = progress.decode_head(kept[HEAD_KEY])
    before = {
        f"{place.topic}/{place.partition}": of.next_offset
        for place, of in sorted(progress.places_of(kept).items())
        if place.topic in AHEAD
    }
    age_s = round(time.time() - head.as_of_ms / 1000, 3)
    return CopyTold(head.source, isoformat(head.as_of_ms), age_s, head.is_usable, head.is_promoted, before)

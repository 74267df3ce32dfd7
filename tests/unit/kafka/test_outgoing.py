"""Up to where a partition of what goes out counts as done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.kafka.outgoing import OutgoingPartition, OutgoingRole
from pipeline.settings import Settings


@dataclass
class InHand:
    """A partition that has sent what is below an offset, and has more in hand or not."""

    next_offset: int
    has_records: bool


async def test_what_is_done_is_past_the_marker_after_the_last_record_and_never_past_a_record_in_hand() -> (
    None
):
    sending = InHand(next_offset=6, has_records=False)
    role = OutgoingRole(
        Settings(kafka_url="kafka://k:1"), "mail", topics.MAIL, lambda _: cast("OutgoingPartition", sending)
    )
    assert role._next_offsets(0) == {}
    idle = asyncio.create_task(asyncio.sleep(0))
    role._partitions[0] = cast("OutgoingPartition", sending), idle
    assert role._next_offsets(0) == {topics.MAIL: 6}
    role._reader.note_fetched(0, {TopicPartition(topics.MAIL, 0): 7})
    assert role._next_offsets(0) == {topics.MAIL: 7}
    sending.has_records = True
    assert role._next_offsets(0) == {topics.MAIL: 6}
    await idle

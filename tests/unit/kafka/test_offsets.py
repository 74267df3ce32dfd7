"""A group's offsets: written again after a failure, and never for partitions that were given up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pipeline.kafka import offsets
from pipeline.kafka.offsets import GroupOffsets

ONE, TWO = TopicPartition("t", 1), TopicPartition("t", 2)


class Group:
    """Takes offsets, but for as often as it fails first."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.taken: dict[TopicPartition, int] = {}
        self.requests = 0

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.requests += 1
        if self.failures:
            self.failures -= 1
            raise KafkaError("the coordinator is away")
        self.taken.update(offsets)


def _followed(group: Group) -> GroupOffsets:
    return GroupOffsets(cast(Any, group))


async def test_what_could_not_be_written_is_written_later_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(offsets, "AGAIN_S", 0.0)
    monkeypatch.setattr(offsets, "EVERY_S", 0.0)
    group = Group(failures=2)
    followed = _followed(group)
    running = asyncio.create_task(followed.run())
    followed.note({ONE: 5})
    async with asyncio.timeout(10):
        while group.taken != {ONE: 5}:
            await asyncio.sleep(0)
    running.cancel()
    assert group.requests == 3
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the group's offsets are written later",
        "the group's offsets are written again",
    ]


async def test_only_the_newest_is_written_and_only_once() -> None:
    group = Group()
    followed = _followed(group)
    followed.note({ONE: 5, TWO: 1})
    followed.note({ONE: 6})
    await followed.give_up([])
    await followed.give_up([])
    assert (group.taken, group.requests) == ({ONE: 6, TWO: 1}, 1)


async def test_what_was_given_up_is_forgotten() -> None:
    group = Group(failures=1)
    followed = _followed(group)
    followed.note({ONE: 5, TWO: 1})
    await followed.give_up([1])
    await followed.give_up([2])
    assert group.taken == {TWO: 1}


async def test_what_has_not_changed_is_not_written_again() -> None:
    group = Group()
    followed = _followed(group)
    followed.note({ONE: 5, TWO: 1})
    await followed.give_up([2])
    followed.note({ONE: 5})
    await followed.give_up([])
    assert group.requests == 1
    followed.note({ONE: 5, TWO: 1})
    await followed.give_up([])
    assert group.requests == 2

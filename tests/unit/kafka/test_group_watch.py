"""What is shown of a member's partitions: how far behind they are, what stands still or is opening, and nothing that is gone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import TopicPartition

from pipeline.connection import KafkaConnection
from pipeline.kafka.group_watch import SILENT_LIMIT_S, GroupWatch, in_words
from pipeline.telemetry import READING

A0, B0, A1 = TopicPartition("a", 0), TopicPartition("b", 0), TopicPartition("a", 1)
PART = "tested"


class Opening:
    """A member that is opening some partitions."""

    def __init__(self, since_s: Mapping[int, float]) -> None:
        self.since_s = dict(since_s)
        self.written: dict[TopicPartition, int] = {}

    def open_places(self) -> Sequence[TopicPartition]:
        return []

    def opening(self) -> Mapping[int, float]:
        return self.since_s

    async def done_offsets(self) -> Mapping[TopicPartition, int]:
        return {}

    def written_ends(self) -> Mapping[TopicPartition, int]:
        return self.written


def _shown(name: str, partition: int, topic: str | None = None) -> float | None:
    labels = {"part": PART, "partition": str(partition), **({"topic": topic} if topic else {})}
    return READING.registry.get_sample_value(f"metering_{name}", labels)


@pytest.fixture
def watch() -> GroupWatch:
    return GroupWatch(KafkaConnection("k:1"), PART, ["a", "b"])


NOBODY = Opening({})


def test_lag_is_what_the_broker_has_beyond_what_is_done(watch: GroupWatch) -> None:
    watch.tell(NOBODY, {A0: 5, B0: 7, A1: 0}, {A0: 9, B0: 7, A1: 3}, 0.0)
    assert (_shown("lag_offsets", 0, "a"), _shown("lag_offsets", 0, "b"), _shown("lag_offsets", 1, "a")) == (
        4,
        0,
        3,
    )
    watch.tell(NOBODY, {A0: 7, B0: 7, A1: 3}, {}, 2.0)  # the broker says nothing: its last word counts
    assert (_shown("lag_offsets", 0, "a"), _shown("lag_offsets", 1, "a")) == (2, 0)


def test_a_partition_stands_still_while_it_lags_and_nothing_of_it_is_done(watch: GroupWatch) -> None:
    for now_s in (0.0, 10.0):
        watch.tell(NOBODY, {A0: 5, B0: 7, A1: 3}, {A0: 9, B0: 8, A1: 3}, now_s)
    assert (_shown("standing_seconds", 0), _shown("standing_seconds", 1)) == (10, 0)
    # One of its topics moves, the other goes on standing.
    watch.tell(NOBODY, {A0: 6, B0: 7, A1: 3}, {A0: 9, B0: 8, A1: 3}, 12.0)
    assert _shown("standing_seconds", 0) == 12
    watch.tell(NOBODY, {A0: 7, B0: 8, A1: 3}, {A0: 9, B0: 8, A1: 4}, 14.0)
    assert (_shown("standing_seconds", 0), _shown("standing_seconds", 1)) == (0, 2)


def test_what_is_written_and_not_committed_lags_and_stands_too(watch: GroupWatch) -> None:
    member = Opening({})
    member.written = {A0: 9}
    for now_s in (0.0, 10.0):
        watch.tell(member, {A0: 5}, {A0: 5}, now_s)
    assert (_shown("lag_offsets", 0, "a"), _shown("standing_seconds", 0)) == (4, 10)
    # The transaction ends: its marker is part of the log, and the broker's answer may be newer than the last fetch's.
    watch.tell(member, {A0: 10}, {A0: 10}, 12.0)
    assert (_shown("lag_offsets", 0, "a"), _shown("standing_seconds", 0)) == (0, 0)


def test_a_partition_shows_as_opening_until_it_is_open(watch: GroupWatch) -> None:
    watch.note_opening(0)
    assert _shown("opening_seconds", 0) == 0
    watch.tell(Opening({0: 3.0}), {}, {}, 10.0)
    assert _shown("opening_seconds", 0) == 7
    watch.note_open(0)
    assert _shown("opening_seconds", 0) is None


def test_what_is_not_ours_any_more_is_not_shown(watch: GroupWatch) -> None:
    watch.note_opening(1)
    watch.tell(NOBODY, {A0: 5, A1: 0}, {A0: 9, A1: 9}, 0.0)
    watch.forget([0, 1])
    for partition in (0, 1):
        assert _shown("lag_offsets", partition, "a") is None
        assert _shown("standing_seconds", partition) is None
        assert _shown("opening_seconds", partition) is None
    # Ours again, it starts from what is known then.
    watch.tell(NOBODY, {A0: 5}, {}, 50.0)
    assert (_shown("lag_offsets", 0, "a"), _shown("standing_seconds", 0)) == (0, 0)


def test_a_broker_that_is_silent_is_a_problem_after_a_while(
    watch: GroupWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (watch.silent_s, watch.problem) == (0, None)
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    watch._answered_at_s = now_s
    now_s += SILENT_LIMIT_S
    assert watch.problem is None
    now_s += 1
    assert watch.problem == "Kafka has not answered for 11 s"


def test_partitions_are_named_the_first_few_of_many() -> None:
    assert in_words([2, 0]) == "0, 2"
    assert in_words(range(11)) == "0, 1, 2, 3, 4, 5, 6, 7 and 3 more"

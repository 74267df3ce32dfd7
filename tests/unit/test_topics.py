"""The topics' settings: what may be compacted is, soon; what is kept for ever is never dropped."""

from __future__ import annotations

import pytest

from pipeline import topics
from pipeline.topics import OUTPUT_BYTES_MAX, TOPICS, Topic

_KEPT_FOR_A_TIME = {topics.ORDERS, topics.TOKENS}
"""Compacted topics of which old records go all the same."""
_KEPT_FOR_EVER = {topics.JOURNAL, topics.DEAD_LETTERS}


@pytest.mark.parametrize("topic", [t for t in TOPICS if t.compacted], ids=lambda t: t.name)
def test_a_compacted_topic_is_compacted_within_an_hour_and_holds_the_largest_record(topic: Topic) -> None:
    config = topic.config(1)
    is_for_a_time = topic.name in _KEPT_FOR_A_TIME
    assert config["cleanup.policy"] == ("compact,delete" if is_for_a_time else "compact")
    assert ("retention.ms" in config) == is_for_a_time
    assert int(config["segment.ms"]) <= int(config["max.compaction.lag.ms"]) <= 3_600_000
    assert int(config["segment.bytes"]) > OUTPUT_BYTES_MAX + 65_536
    assert 0 < float(config["min.cleanable.dirty.ratio"]) < 0.5


@pytest.mark.parametrize("topic", [t for t in TOPICS if not t.compacted], ids=lambda t: t.name)
def test_what_is_not_compacted_is_kept_for_its_time_whatever_its_size(topic: Topic) -> None:
    config = topic.config(2)
    assert (config["cleanup.policy"], config["retention.bytes"]) == ("delete", "-1")
    assert (config["retention.ms"] == "-1") == (topic.name in _KEPT_FOR_EVER)
    assert config["min.insync.replicas"] == "2"

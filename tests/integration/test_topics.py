"""The topics on a real broker: created, corrected, and refused where they cannot be as asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import TopicsError, ensure_topics
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from tests.support import parts

_ALL = {topic.name for topic in topics.TOPICS}


@pytest.fixture(scope="module")
def empty_broker() -> Iterator[Broker]:
    """A broker of its own for this file, without a topic until a test here makes some."""
    with parts.own_broker() as broker:
        yield broker


async def _set(servers: str, topic: str, config: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    await admin.close()
    for name, value in config.items():
        await _until_set(servers, topic, name, value)


async def _until_set(servers: str, topic: str, name: str, value: str) -> None:
    """Return when the broker says so too: the controller answers before it does."""
    async with asyncio.timeout(20):
        while await _value(servers, topic, name) != value:
            await asyncio.sleep(0.05)


async def _value(servers: str, topic: str, name: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    asked = ConfigResource(ConfigResourceType.TOPIC, topic, {name: ""})
    [response] = await admin.describe_configs([asked])
    await admin.close()
    value: str = response.resources[0][4][0][1]
    return value


async def test_what_the_broker_refuses_is_a_clear_error(empty_broker: Broker) -> None:
    """The first test here, as nothing is created: topics that are there are not asked for again."""
    with pytest.raises(TopicsError, match=r"metering\.requests cannot be created: .*replication"):
        await ensure_topics(empty_broker.connection, Settings(replication_factor=3))


async def test_topics_are_created_once_and_corrected_when_they_differ(empty_broker: Broker) -> None:
    kafka, servers, settings = empty_broker.connection, empty_broker.servers, Settings(partitions=3)
    reports = await asyncio.gather(ensure_topics(kafka, settings), ensure_topics(kafka, settings))
    assert {name for report in reports for name in report.created} == _ALL
    assert sum(len(report.created) for report in reports) == len(_ALL)

    again = await ensure_topics(kafka, settings)
    assert (again.created, again.updated, set(again.unchanged)) == ((), (), _ALL)
    assert await _value(servers, topics.STATE, "cleanup.policy") == "compact"
    assert await _value(servers, topics.VERDICTS, "segment.ms") == str(topics.SEGMENT_MS)
    assert await _value(servers, topics.VERDICTS, "delete.retention.ms") == "3600000"
    assert await _value(servers, topics.CATALOG, "delete.retention.ms") == "86400000"
    assert await _value(servers, topics.JOURNAL, "retention.ms") == "-1"
    assert await _value(servers, topics.REQUESTS, "message.timestamp.type") == "LogAppendTime"

    await _set(servers, topics.JOURNAL, {"retention.ms": "1000", "segment.ms": "86400000"})
    await _set(servers, topics.STATE, {"cleanup.policy": "compact", "segment.ms": "604800000"})
    corrected = await ensure_topics(kafka, settings)
    assert set(corrected.updated) == {topics.JOURNAL, topics.STATE}
    await _until_set(servers, topics.STATE, "segment.ms", str(topics.SEGMENT_MS))
    await _until_set(servers, topics.JOURNAL, "retention.ms", "-1")
    assert await _value(servers, topics.JOURNAL, "segment.ms") == "86400000"

    with pytest.raises(TopicsError, match=r"has 3 partitions, 5 were asked for: set METERING_PARTITIONS=3"):
        await ensure_topics(kafka, Settings(partitions=5))


async def test_no_broker_is_a_clear_error() -> None:
    with pytest.raises(TopicsError, match=r"cannot make the topics at 127\.0\.0\.1:1"):
        await ensure_topics(KafkaConnection("127.0.0.1:1"), Settings())

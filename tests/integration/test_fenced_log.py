"""The one writer of a partition: what is left of it once somebody else has taken over."""

from __future__ import annotations

import gc
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

from pipeline.connection import KafkaConnection
from pipeline.kafka.fenced import FencedLog
from pipeline.steps import Output, Outputs, TopicPlace


async def test_who_was_fenced_is_told_and_the_client_adds_no_words_of_its_own(
    kafka_servers: str, caplog: pytest.LogCaptureFixture
) -> None:
    kafka, name = KafkaConnection(kafka_servers), f"fenced-{time.monotonic_ns()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    outputs = {TopicPlace(name, 0): [Output(b"key", b"value")]}
    former, owner = FencedLog(kafka, name), FencedLog(kafka, name)
    await former.start()
    await former.commit(outputs)
    await owner.start()
    assert await _is_fenced(former, outputs)
    await former.close()
    await owner.commit(outputs)
    await owner.close()
    del former
    gc.collect()
    # What else is collected here may be of another test, and is told in other words.
    said = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert [words for words in said if "was never retrieved" in words] == []


async def _is_fenced(log: FencedLog, outputs: Outputs) -> bool:
    """Whether a commit is refused to who is the writer no more. Nothing of the error is kept."""
    try:
        await log.commit(outputs)
    except ProducerFenced:
        return True
    return False

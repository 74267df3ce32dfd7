"""How many partitions the deployment's topics have: asked of the broker, never assumed.

Owns: the check that the topics that have to be partitioned alike are.
Called by: the worker, the command client, the sink and `operations/`.
"""

from __future__ import annotations

import asyncio

from aiokafka.errors import TopicAuthorizationFailedError

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_admin
from pipeline.topics import TOPICS

LIMIT_S = 15.0


class PartitionsError(Exception):
    """The topics are absent, or not partitioned alike."""


async def partition_count(kafka: KafkaConnection) -> int:
    """Return the partition count that all partitioned topics share.

    Raises PartitionsError where one is missing or differs, TopicAuthorizationFailedError where the brokers do not tell,
    or another KafkaError where nobody answers.
    """
    names = [topic.name for topic in TOPICS if topic.partitioned]
    async with started_admin(kafka, request_timeout_ms=10_000) as admin, asyncio.timeout(LIMIT_S):
        described = await admin.describe_topics(names)
    refused = {
        topic["topic"] for topic in described if topic["error_code"] == TopicAuthorizationFailedError.errno
    }
    if refused:
        raise TopicAuthorizationFailedError(refused)
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    missing = [name for name in names if not counts.get(name)]
    if missing:
        raise PartitionsError(f"topics are missing: {', '.join(missing)}. Run `metering topics`.")
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name}: {counts[name]}" for name in names)
        raise PartitionsError(
            f"the topics have to have the same number of partitions, but have {found}. Orgs are spread over "
            "partitions by that number, so it cannot change: restore the count the topics were made with."
        )
    return counts[names[0]]

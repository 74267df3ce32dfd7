"""Create the Kafka topics, or bring their settings up to date.

Owns: when a topic on the broker is as it should be.
Called by: `local/supervisor.py`, `metering topics`.  Next: `topics.py` for what they should be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_admin
from pipeline.kafka.refused import in_one_line
from pipeline.settings import CommonSettings
from pipeline.topics import TOPICS, Topic

_LEADERS_SECONDS_MAX = 30.0
_ASK_AGAIN_SECONDS = 0.1
_REQUEST_MS_MAX = 15_000

# Where DescribeConfigs says a value comes from: set on the topic itself.
_SET_ON_THE_TOPIC = 1


class TopicsError(Exception):
    """The topics cannot be made as the settings ask. The message says which and why."""


@dataclass(frozen=True)
class TopicsReport:
    """What `ensure_topics` did, by topic name."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]


async def ensure_topics(
    kafka: KafkaConnection, settings: CommonSettings, wanted: Iterable[Topic] = TOPICS
) -> TopicsReport:
    """Create the absent topics, correct settings that differ, and return when every partition has a leader.

    Safe to repeat, and from several processes at once. Settings of a topic that this project does not set
    stay as they are. Raises TopicsError where the broker refuses, or a topic has another partition count.
    """
    topics = {topic.name: topic for topic in wanted}
    try:
        async with started_admin(kafka, request_timeout_ms=_REQUEST_MS_MAX) as admin:
            created = await _create(admin, topics, settings)
            await _await_leaders(admin, topics, settings)
            updated = await _update(admin, [t for t in topics.values() if t.name not in created], settings)
    except (KafkaError, OSError) as error:
        reason = in_one_line(error) or _said(error)
        raise TopicsError(f"cannot make the topics at {kafka.servers}: {reason}") from error
    unchanged = [name for name in topics if name not in created and name not in updated]
    return TopicsReport(tuple(created), tuple(updated), tuple(unchanged))


def partitions_of(topic: Topic, settings: CommonSettings) -> int:
    """Return how many partitions a topic has in this deployment."""
    return settings.partitions if topic.partitioned else 1


async def _create(
    admin: AIOKafkaAdminClient, topics: Mapping[str, Topic], settings: CommonSettings
) -> list[str]:
    """Create what is absent and return the names of what this call created."""
    there = set(await admin.list_topics())
    absent = [topic for name, topic in topics.items() if name not in there]
    if not absent:
        return []
    answer = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                partitions_of(topic, settings),
                settings.replication_factor,
                topic_configs=topic.config(settings.min_insync_replicas),
            )
            for topic in absent
        ]
    )
    created = []
    for name, code, *message in answer.topic_errors:
        if code == 0:
            created.append(name)
        elif code != TopicAlreadyExistsError.errno:
            reason = message[0] if message and message[0] else _said(for_code(code)())
            raise TopicsError(f"topic {name} cannot be created: {reason}{_remedy(code, settings)}")
    return created


async def _await_leaders(
    admin: AIOKafkaAdminClient, topics: Mapping[str, Topic], settings: CommonSettings
) -> None:
    """Return when every partition has a leader. Raises TopicsError on another partition count or too few replicas."""
    clock = asyncio.get_running_loop().time
    until = clock() + _LEADERS_SECONDS_MAX
    while True:
        waiting = dict(topics)
        for described in await admin.describe_topics(list(topics)):
            topic = topics[described["topic"]]
            partitions: list[dict[str, Any]] = described["partitions"]
            if described["error_code"] != 0 or not partitions:
                continue
            expected = partitions_of(topic, settings)
            if len(partitions) != expected:
                raise TopicsError(_wrong_count(topic, len(partitions), expected))
            replicas = min(len(p["replicas"]) for p in partitions)
            if replicas < settings.min_insync_replicas:
                raise TopicsError(_too_few_replicas(topic, replicas, settings))
            if all(p["error_code"] == 0 and p["leader"] >= 0 for p in partitions):
                del waiting[topic.name]
        if not waiting:
            return
        if clock() > until:
            raise TopicsError(f"no leader after {_LEADERS_SECONDS_MAX:.0f} s: {', '.join(sorted(waiting))}")
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


def _too_few_replicas(topic: Topic, replicas: int, settings: CommonSettings) -> str:
    return (
        f"topic {topic.name} has {replicas} replicas, so nothing could be written with "
        f"METERING_MIN_INSYNC_REPLICAS={settings.min_insync_replicas}: set that to {replicas} or less"
    )


def _remedy(code: int, settings: CommonSettings) -> str:
    if code == InvalidReplicationFactorError.errno:
        return f" METERING_REPLICATION_FACTOR is {settings.replication_factor}: set it to no more than there are brokers."
    if code in (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno):
        return (
            " `metering topics` needs the rights of the role `topics`: `metering topics --acls` prints them."
        )
    return ""


def _wrong_count(topic: Topic, has: int, expected: int) -> str:
    remedy = f"set METERING_PARTITIONS={has}, or use a new deployment" if topic.partitioned else "delete it"
    return f"topic {topic.name} has {has} partitions, {expected} were asked for: {remedy}"


async def _update(admin: AIOKafkaAdminClient, topics: list[Topic], settings: CommonSettings) -> list[str]:
    """Correct the settings that differ and return the names of the topics they were corrected on."""
    if not topics:
        return []
    set_now = await _configs(admin, topics)
    changes = []
    for topic in topics:
        config = topic.config(settings.min_insync_replicas)
        now = set_now[topic.name]
        if any(now.get(name) != value for name, value in config.items()):
            # AlterConfigs replaces the whole set: what an operator has set besides goes along.
            changes.append(ConfigResource(ConfigResourceType.TOPIC, topic.name, {**now, **config}))
    if changes:
        for response in await admin.alter_configs(changes):
            for code, message, _, name in response.resources:
                if code != 0:
                    raise TopicsError(f"topic {name} cannot be changed: {message or _said(for_code(code)())}")
    return [change.name for change in changes]


async def _configs(admin: AIOKafkaAdminClient, topics: list[Topic]) -> dict[str, dict[str, str]]:
    """Return the settings that are set on each topic itself."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    configs: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            if code != 0:
                raise TopicsError(f"topic {name} cannot be read: {message or _said(for_code(code)())}")
            configs[name] = {
                entry[0]: entry[1] for entry in entries if _is_set_on_topic(entry, response.API_VERSION)
            }
    return configs


def _is_set_on_topic(entry: tuple[Any, ...], version: int) -> bool:
    """Return whether a described setting is the topic's own. Version 0 says only whether it is a default."""
    return not entry[3] if version == 0 else bool(entry[3] == _SET_ON_THE_TOPIC)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__

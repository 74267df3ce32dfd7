"""Ask the brokers for the ids of topics: a topic that is made anew has its old name and another id.

Owns: the Metadata request in the version that tells ids (KIP-516), which aiokafka does not have.
Called by: whoever takes a partition over: `worker/partition.py`, `sink/partition.py`, `kafka/outgoing.py`.

The format is Kafka's own: https://kafka.apache.org/protocol, «Metadata API», version 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from io import BytesIO
from typing import TypeAlias
from uuid import UUID

from aiokafka.errors import for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_client

NO_ID = UUID(int=0)
LIMIT_S = 15.0


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka is published without types
    """Sixteen bytes, the most significant first."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_PARTITION = (
    ("error_code", Int16),
    ("partition_index", Int32),
    ("leader_id", Int32),
    ("leader_epoch", Int32),
    ("replica_nodes", CompactArray(Int32)),
    ("isr_nodes", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("name", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("topic_authorized_operations", Int32),
    ("tags", TaggedFields),
)
_BROKER = (
    ("node_id", Int32),
    ("host", CompactString("utf-8")),
    ("port", Int32),
    ("rack", CompactString("utf-8")),
    ("tags", TaggedFields),
)


class _TopicIdsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicIdsRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _TopicIdsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


_Struct: TypeAlias = _TopicIdsRequestStruct


class _TopicIdsRequest(Request[_Struct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        no_tags: dict[int, bytes] = {}
        topics = [(NO_ID, name, no_tags) for name in self._names]
        return request_struct_class(topics, False, False, False, no_tags)


async def topic_ids(kafka: KafkaConnection, names: Iterable[str]) -> dict[str, str]:
    """Return the id of each topic, 32 hex digits; nothing where the brokers, before Kafka 2.8, give topics no ids.

    Raises the KafkaError of a topic that there is not, or that may not be described, and TimeoutError.
    """
    try:
        async with asyncio.timeout(LIMIT_S), started_client(kafka) as client:
            answer = await client.send(client.get_random_node(), _TopicIdsRequest(names))
    except NotImplementedError:
        return {}
    found = {}
    for code, name, topic_id, *_ in answer.topics:
        if code != 0:
            raise for_code(code)(name)
        if topic_id != NO_ID:
            found[name] = topic_id.hex
    return found

"""Who may do what on the embedded broker: the rights of whoever comes without a password.

Owns: those rights, and how the broker is told of them.
Called by: `local/broker.py`.

Such a client may be a gateway, or another user of the machine. It may write requests, in transactions of its own too,
and read. It may write nothing else, change no topic, and take part neither in the product's consumer groups nor in its
transactions: with these it could keep the product from working, and with the rest it could make money.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from aiokafka.protocol.admin import CreateAclsRequest

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_client
from pipeline.local.errors import LocalError
from pipeline.topics import REQUESTS

ANYBODY = "User:ANONYMOUS"
"""How Kafka names who comes without signing in."""
OWN_GROUPS = ("worker", "sink", "mail")
"""The product's consumer groups are named `DEPLOYMENT-` and one of these; its transactional ids all begin so."""


class Resource(IntEnum):
    """What a right is about, by Kafka's number."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Pattern(IntEnum):
    """Which resources a name means, by Kafka's number; `*` literally means all."""

    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """What is done to a resource, by Kafka's number. Who may read or write may look (`DESCRIBE`) too."""

    ALL = 2
    READ = 3
    WRITE = 4
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


class Permission(IntEnum):
    """Whether it may be done, by Kafka's number. What is denied is denied whatever else is allowed."""

    DENY = 2
    ALLOW = 3


class Right(NamedTuple):
    """What `ANYBODY` may do to a resource, or may not."""

    permission: Permission
    operation: Operation
    resource: Resource
    name: str = "*"
    pattern: Pattern = Pattern.LITERAL


@dataclass(frozen=True)
class Rights:
    """What a broker needs to tell its own product from everybody else on the machine."""

    password: str = field(repr=False)
    deployment: str
    """As in the settings: the product's groups and transactions are named after it."""


def of_anybody(deployment: str) -> Iterator[Right]:
    """Yield the rights of whoever comes without a password."""
    allow, deny = Permission.ALLOW, Permission.DENY
    yield Right(allow, Operation.WRITE, Resource.TOPIC, REQUESTS)
    yield Right(allow, Operation.WRITE, Resource.TRANSACTIONAL_ID)
    yield Right(allow, Operation.READ, Resource.TOPIC)
    yield Right(allow, Operation.DESCRIBE_CONFIGS, Resource.TOPIC)
    yield Right(allow, Operation.READ, Resource.GROUP)
    yield Right(allow, Operation.DESCRIBE, Resource.CLUSTER, "kafka-cluster")
    for name in OWN_GROUPS:
        yield Right(deny, Operation.ALL, Resource.GROUP, f"{deployment}-{name}")
    yield Right(deny, Operation.ALL, Resource.TRANSACTIONAL_ID, f"{deployment}-", Pattern.PREFIXED)


async def give(kafka: KafkaConnection, deployment: str) -> None:
    """Tell the broker of the rights; those that it knows of already change nothing.

    Raises LocalError where it does not take one, and a KafkaError where it cannot be reached.
    """
    async with started_client(kafka) as client:
        for right in of_anybody(deployment):
            request = CreateAclsRequest(
                right.resource, right.name, right.pattern, ANYBODY, "*", right.operation, right.permission
            )
            answer = await client.send(client.get_random_node(), request)
            for code, message in answer.creation_responses:
                if code:
                    raise LocalError(f"the broker does not take {right}: {message or code}")

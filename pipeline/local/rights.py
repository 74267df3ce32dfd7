"""Who may do what on the embedded broker: the rights of whoever comes without a password.

Owns: those rights. Called by: `local/broker.py`. Next: `kafka/granting.py` tells the broker of them.

Such a client may be a gateway, or another user of the machine. It may write requests, in transactions of its own too,
and read. It may write nothing else, change no topic, and take part neither in the product's consumer groups nor in its
transactions: with these it could keep the product from working, and with the rest it could make money.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.connection import KafkaConnection
from pipeline.kafka.acls import AclGrant, AclOperation, AclResource
from pipeline.kafka.granting import GrantError, set_rights
from pipeline.local.errors import LocalError
from pipeline.topics import REQUESTS

ANYBODY = "User:ANONYMOUS"
"""How Kafka names who comes without signing in."""
EVERY = "*"

ALLOWED = (
    AclGrant(AclResource.TOPIC, REQUESTS, (AclOperation.WRITE,)),
    AclGrant(AclResource.TRANSACTIONAL_ID, EVERY, (AclOperation.WRITE,)),
    AclGrant(AclResource.TOPIC, EVERY, (AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)),
    AclGrant(AclResource.GROUP, EVERY, (AclOperation.READ,)),
    AclGrant(AclResource.CLUSTER, "kafka-cluster", (AclOperation.DESCRIBE,)),
)


@dataclass(frozen=True)
class Rights:
    """What a broker needs to tell its own product from everybody else on the machine."""

    password: str = field(repr=False)
    deployment: str
    """As in the settings: the product's groups and transactions are named after it."""


def denied(deployment: str) -> tuple[AclGrant, ...]:
    """Return what anybody may not do whatever else is allowed: all groups and transactional ids of the product begin so."""
    own = f"{deployment}-"
    return tuple(
        AclGrant(resource, own, (AclOperation.ALL,), is_prefix=True)
        for resource in (AclResource.GROUP, AclResource.TRANSACTIONAL_ID)
    )


async def give(kafka: KafkaConnection, deployment: str) -> None:
    """Tell the broker of the rights; those that it knows of already change nothing.

    Raises LocalError where it does not take one, and a KafkaError where it cannot be reached.
    """
    try:
        await set_rights(
            kafka,
            allowed=[(ANYBODY, right) for right in ALLOWED],
            denied=[(ANYBODY, right) for right in denied(deployment)],
        )
    except GrantError as error:
        raise LocalError(str(error)) from None

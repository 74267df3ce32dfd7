"""Who may do what in Kafka: the rights that each role needs, and no others.

Owns: the table of roles and rights (access control lists, ACLs), in Kafka's own terms.
Called by: `kafka/granting.py`, `local/rights.py` and `metering topics --acls`; docs/deploy.md shows the same table.

The right to read or write a topic includes the right to describe it, and the right to write under a transactional id or to
read in a consumer group that of describing it. Every role but the gateway may describe all topics: it asks how many
partitions they have before it does anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from pipeline import topics

PREFIX = "metering."
"""What all topics begin with."""
_DIGITS = "0123456789"


class AclResource(IntEnum):
    """What a right is about, by the numbers of Kafka's protocol (ResourceType)."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class AclOperation(IntEnum):
    """What may be done, by the numbers of Kafka's protocol (AclOperation)."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11


@dataclass(frozen=True, order=True)
class AclGrant:
    """A right: operations on a resource of that name, on all whose name begins with it where `is_prefix`, on all for `*`."""

    resource: AclResource
    name: str
    operations: tuple[AclOperation, ...]
    is_prefix: bool = False


def shown(grant: AclGrant) -> dict[str, object]:
    """Return a right in the words of Kafka's own tools."""
    return {
        "resource": grant.resource.name,
        "pattern": "PREFIXED" if grant.is_prefix else "LITERAL",
        "name": grant.name,
        "operations": [operation.name for operation in grant.operations],
    }


def _may(operation: AclOperation, names: Iterable[str]) -> tuple[AclGrant, ...]:
    return tuple(AclGrant(AclResource.TOPIC, name, (operation,)) for name in names)


def _all_topics(*operations: AclOperation) -> AclGrant:
    return AclGrant(AclResource.TOPIC, PREFIX, operations, is_prefix=True)


def _group(name: str) -> AclGrant:
    return AclGrant(AclResource.GROUP, name, (AclOperation.READ,))


def _transactions(name: str, *, is_prefix: bool = False) -> AclGrant:
    return AclGrant(AclResource.TRANSACTIONAL_ID, name, (AclOperation.WRITE,), is_prefix)


def acls(deployment: str) -> Mapping[str, tuple[AclGrant, ...]]:
    """Return each role's rights in a deployment, which prefixes its groups and transactional ids."""
    read, write, describe = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
    make = (
        AclOperation.CREATE,
        AclOperation.DESCRIBE,
        AclOperation.DESCRIBE_CONFIGS,
        AclOperation.ALTER_CONFIGS,
    )
    sink = (
        *_may(write, [topics.SINK_STATE]),
        *_may(read, [topics.JOURNAL, topics.SINK_STATE]),
        _all_topics(describe),
        _group(f"{deployment}-sink"),
        _transactions(f"{deployment}-sink-", is_prefix=True),
    )
    return {
        "gateway": (
            *_may(write, [topics.REQUESTS]),
            *_may(read, [topics.VERDICTS, topics.KEYS]),
        ),
        "worker": (
            *_may(write, _WORKER_WRITES),
            *_may(read, _WORKER_READS),
            _all_topics(describe),
            _group(f"{deployment}-worker"),
            # Its transactional ids end in a partition's number, and no other role's begin with a digit there.
            *(_transactions(f"{deployment}-{digit}", is_prefix=True) for digit in _DIGITS),
        ),
        "sink": sink,
        "notary": (
            *_may(write, _NOTARY_WRITES),
            *_may(read, _NOTARY_READS),
            _all_topics(describe),
            _group(f"{deployment}-notary"),
            _transactions(f"{deployment}-notary"),
        ),
        "server": (
            *_may(write, _SERVER_WRITES),
            *_may(read, _SERVER_READS),
            _all_topics(describe),
            _group(f"{deployment}-mail"),
            _group(f"{deployment}-webhooks"),
            _group(f"{deployment}-notary"),
            _transactions(f"{deployment}-mail-", is_prefix=True),
            _transactions(f"{deployment}-webhooks-", is_prefix=True),
            _transactions(f"{deployment}-notary"),
        ),
        "verify": (
            *_may(write, [topics.VERIFY_STATE]),
            _all_topics(read, describe),
            _transactions(f"{deployment}-verify"),
        ),
        "operator": (
            *_may(write, _OPERATOR_WRITES),
            _all_topics(read, describe, AclOperation.DESCRIBE_CONFIGS),
            # `metering status` looks at the groups of all roles.
            AclGrant(AclResource.GROUP, f"{deployment}-", (describe,), is_prefix=True),
            *(_transactions(f"{deployment}-{name}") for name in _OPERATOR_TRANSACTIONS),
            _transactions(f"{deployment}-sink-", is_prefix=True),
            *(_transactions(f"{deployment}-{digit}", is_prefix=True) for digit in _DIGITS),
        ),
        "topics": (_all_topics(*make),),
        "mirror-source": (_all_topics(read, describe),),
        "mirror-target": (_all_topics(read, write, *make), _transactions(f"{deployment}-mirror")),
    }


_WORKER_WRITES = (
    topics.JOURNAL,
    topics.VERDICTS,
    topics.KEYS,
    topics.ORDERS,
    topics.REPLIES,
    topics.MAIL,
    topics.WEBHOOKS,
    topics.MOVED,
    topics.DEAD_LETTERS,
    topics.STATE,
    topics.BESIDE_JOURNAL,
)
_WORKER_READS = (
    *topics.INPUTS,
    topics.CATALOG,
    topics.PROMOS,
    topics.GATEWAYS,
    topics.JOURNAL,
    topics.STATE,
    topics.BESIDE_JOURNAL,
)
_NOTARY_WRITES = (topics.CHECKPOINTS_STATE, topics.NOTARY_STATE)
_NOTARY_READS = (topics.CATALOG, topics.JOURNAL, topics.STATE, *_NOTARY_WRITES)
_SERVER_WRITES = (
    topics.BILLING,
    topics.SESSIONS,
    topics.TOKENS,
    topics.MAIL_STATE,
    topics.WEBHOOKS_STATE,
    *_NOTARY_WRITES,
)
"""Of the API, the mailer, the sender of webhooks and the notary."""
_SERVER_READS = (
    topics.CATALOG,
    topics.KEYS,
    topics.ORDERS,
    topics.REPLIES,
    topics.SESSIONS,
    topics.TOKENS,
    topics.MAIL,
    topics.MAIL_STATE,
    topics.WEBHOOKS,
    topics.WEBHOOKS_STATE,
    topics.JOURNAL,
    topics.STATE,
    topics.CHECKPOINTS_STATE,
    topics.NOTARY_STATE,
    topics.VERIFY_STATE,
)
_OPERATOR_TRANSACTIONS = ("catalog", "promos", "gateways", "redrive", "verify")
_OPERATOR_WRITES = (
    topics.BILLING,
    topics.CATALOG,
    topics.PROMOS,
    topics.GATEWAYS,
    topics.SESSIONS,
    topics.TOKENS,
    topics.MOVED,
    topics.STATE,
    topics.SINK_STATE,
    topics.REDRIVE_STATE,
    topics.VERIFY_STATE,
)
"""`metering quarantine` and `metering rebuild state` write into the accounts' state, the other rebuilds into the sink's."""

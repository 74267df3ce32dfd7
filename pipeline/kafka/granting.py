"""Give principals the rights of roles: Kafka's own access control lists, set by its administrator.

Owns: the CreateAcls request for many rights at once, which aiokafka has for one.
Called by: `metering topics --acls`, and `local/rights.py` for the embedded broker. Next: `kafka/acls.py` for the rights.

The format is Kafka's own: https://kafka.apache.org/protocol, «CreateAcls API», version 1. A right that is there already
stays as it is, so all of this is safe to repeat. Nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest_v1
from aiokafka.protocol.api import Request

from pipeline.connection import KafkaConnection
from pipeline.kafka.acls import AclGrant, acls
from pipeline.kafka.clients import started_client

_LITERAL, _PREFIXED = 3, 4
_DENY, _ALLOW = 2, 3
_ANY_HOST = "*"
_PRINCIPAL = 3
"""The place of the principal in a creation."""

_Struct: TypeAlias = CreateAclsRequest_v1


class GrantError(Exception):
    """The rights cannot be given. The message says what to set."""


class _CreateAcls(Request[_Struct]):  # type: ignore[misc]  # aiokafka is published without types
    API_KEY = 30

    def __init__(self, creations: Sequence[tuple[Any, ...]]) -> None:
        self._creations = list(creations)

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        return request_struct_class(self._creations)


def check_grants(wanted: Sequence[str], deployment: str) -> list[tuple[str, str]]:
    """Return role and principal of each `ROLE=User:NAME`. Raises GrantError naming what is neither."""
    found = []
    for text in wanted:
        role, _, principal = text.partition("=")
        kind, _, name = principal.partition(":")
        if role not in acls(deployment):
            raise GrantError(f"{text}: the role is one of {', '.join(acls(deployment))}")
        if kind != "User" or not name or name == "*":
            raise GrantError(f"{text}: must look like {role}=User:NAME, the name as Kafka knows it")
        found.append((role, principal))
    return found


async def grant(
    kafka: KafkaConnection, deployment: str, wanted: Sequence[tuple[str, str]]
) -> Mapping[str, int]:
    """Give each (role, principal) the role's rights; returns how many rights each principal was given.

    Who asks needs the right to alter the cluster. Raises GrantError where it lacks that, or the brokers keep no rights;
    a KafkaError where nobody answers.
    """
    roles = acls(deployment)
    allowed = [(principal, right) for role, principal in wanted for right in roles[role]]
    await set_rights(kafka, allowed=allowed)
    given: dict[str, int] = {}
    for principal, right in allowed:
        given[principal] = given.get(principal, 0) + len(right.operations)
    return given


async def set_rights(
    kafka: KafkaConnection,
    *,
    allowed: Iterable[tuple[str, AclGrant]],
    denied: Iterable[tuple[str, AclGrant]] = (),
) -> None:
    """Allow principals what is `allowed`, and deny them what is `denied` whatever else they are allowed.

    Raises GrantError where the brokers do not take one, a KafkaError where nobody answers.
    """
    creations = [
        creation
        for permission, rights in ((_ALLOW, allowed), (_DENY, denied))
        for principal, right in rights
        for creation in _creations(right, principal, permission)
    ]
    async with started_client(kafka) as client:
        answer = await _asked(client, creations)
    for creation, (code, message) in zip(creations, answer.creation_responses, strict=True):
        if code != 0:
            principal = creation[_PRINCIPAL]
            raise GrantError(
                f"the rights of {principal} cannot be set: {message or for_code(code).__name__}. That takes the right "
                "to alter the cluster, and brokers with an `authorizer.class.name`"
            )


async def _asked(client: AIOKafkaClient, creations: Sequence[tuple[Any, ...]]) -> Any:
    return await client.send(client.get_random_node(), _CreateAcls(creations))


def _creations(each: AclGrant, principal: str, permission: int) -> list[tuple[Any, ...]]:
    pattern = _PREFIXED if each.is_prefix else _LITERAL
    return [
        (each.resource, each.name, pattern, principal, _ANY_HOST, operation, permission)
        for operation in each.operations
    ]

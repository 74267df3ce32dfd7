"""The rights of each role: the table of docs/deploy.md is the one that `metering topics --acls` prints and sets."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from pipeline import topics
from pipeline.kafka.acls import PREFIX, AclGrant, AclOperation, AclResource, acls
from pipeline.kafka.granting import GrantError, check_grants
from tests.support.deploy import ROOT

HEAD = (
    "| role | write | read | else | groups (read) | transactional ids (write) |\n|---|---|---|---|---|---|\n"
)


def _name(grant: AclGrant) -> str:
    return f"`{grant.name}*`" if grant.is_prefix else f"`{grant.name}`"


def _topics(grants: tuple[AclGrant, ...], operation: AclOperation) -> str:
    found = [each for each in grants if each.resource is AclResource.TOPIC and operation in each.operations]
    names = [_name(each).replace(f"`{PREFIX}", "`.") for each in found if each.name != PREFIX]
    return "all" if any(each.name == PREFIX for each in found) else ", ".join(names)


def _else(grants: tuple[AclGrant, ...]) -> str:
    known = {AclOperation.READ, AclOperation.WRITE}
    found = {
        operation
        for each in grants
        if each.resource is AclResource.TOPIC
        for operation in each.operations
        if operation not in known
    }
    words = [operation.name.lower().replace("_", " ") for operation in sorted(found)]
    return f"{', '.join(words)} all" if words else ""


def _of(grants: tuple[AclGrant, ...], resource: AclResource) -> str:
    """Return the names of a kind, each that may only be described with that word."""
    return ", ".join(
        _name(each) + (" (describe)" if each.operations == (AclOperation.DESCRIBE,) else "")
        for each in grants
        if each.resource is resource
    )


def table() -> str:
    """Return the table as it has to be in the docs."""
    rows = [
        f"| {role} | {_topics(grants, AclOperation.WRITE)} | {_topics(grants, AclOperation.READ)} | {_else(grants)} | "
        f"{_of(grants, AclResource.GROUP)} | {_of(grants, AclResource.TRANSACTIONAL_ID)} |"
        for role, grants in acls("DEPLOYMENT").items()
    ]
    return HEAD + "\n".join(rows) + "\n"


def test_the_docs_have_the_table_that_is_set() -> None:
    assert table() in (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_only_the_server_and_operators_may_write_commands_and_only_gateways_requests() -> None:
    def writers(topic: str) -> set[str]:
        return {
            role
            for role, grants in acls("metering").items()
            for each in grants
            if each.resource is AclResource.TOPIC
            and AclOperation.WRITE in each.operations
            and (each.name == topic or (each.is_prefix and topic.startswith(each.name)))
        }

    assert writers(topics.BILLING) == {"server", "operator", "mirror-target"}
    assert writers(topics.REQUESTS) == {"gateway", "mirror-target"}
    assert writers(topics.JOURNAL) == {"worker", "mirror-target"}


def test_a_workers_transactional_ids_are_those_of_partitions_and_nobody_elses() -> None:
    of_worker = [
        each.name for each in acls("metering")["worker"] if each.resource is AclResource.TRANSACTIONAL_ID
    ]

    def may(transactional_id: str) -> bool:
        return any(transactional_id.startswith(name) for name in of_worker)

    assert all(may(f"metering-{partition}") for partition in range(256))
    others = ("sink-0", "mail-0", "catalog", "promos", "redrive", "verify", "mirror", "notary")
    assert not any(may(f"metering-{other}") for other in others)


def test_the_command_prints_the_table_without_a_broker() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "pipeline", "topics", "--acls"], capture_output=True, check=True
    ).stdout
    of_gateway = msgspec.json.decode(printed)["gateway"]
    assert of_gateway == [
        {"resource": "TOPIC", "pattern": "LITERAL", "name": name, "operations": [operation]}
        for name, operation in (
            (topics.REQUESTS, "WRITE"),
            (topics.VERDICTS, "READ"),
            (topics.KEYS, "READ"),
        )
    ]


@pytest.mark.parametrize("wrong", ["boss=User:a", "worker", "worker=a", "worker=User:", "worker=User:*"])
def test_who_is_given_rights_is_one_user_and_one_role(wrong: str) -> None:
    assert check_grants(["worker=User:w", "gateway=User:CN=mum-1"], "metering") == [
        ("worker", "User:w"),
        ("gateway", "User:CN=mum-1"),
    ]
    with pytest.raises(GrantError):
        check_grants([wrong], "metering")

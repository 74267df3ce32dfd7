"""Which parts are well, by what Kafka and the roles say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.status.found import Backlog, ConsumerGroup, DeploymentFound, LastVerify, RoleFound
from pipeline.status.judged import BEHIND_MAX_MS, PartCondition, is_well, judged
from tests.support.status import AT_MS, KAFKA, NONE, WELL


def _condition(name: str, found: DeploymentFound) -> tuple[PartCondition, str]:
    [part] = [each for each in judged(found) if each.name == name]
    return part.condition, part.detail


@pytest.mark.parametrize(
    ("group", "why"),
    [
        (NONE, "none runs"),
        (ConsumerGroup("Stable", 1, frozenset({0, 2})), "nobody has partition 1, 3"),
        (
            ConsumerGroup("PreparingRebalance", 2, frozenset()),
            "its partitions are being given out anew (group state PreparingRebalance): look again in a moment",
        ),
    ],
)
def test_a_worker_is_well_only_while_every_partition_has_an_owner(group: ConsumerGroup, why: str) -> None:
    found = replace(WELL, kafka=replace(KAFKA, groups={**KAFKA.groups, "worker": group}))
    assert _condition("worker", found) == (PartCondition.WRONG, why)
    assert not is_well(found, judged(found))


def test_a_record_may_wait_for_a_minute_and_no_longer() -> None:
    def waiting(age_ms: int) -> DeploymentFound:
        backlogs = {**KAFKA.backlogs, "worker": Backlog({0: 1, 3: 9}, {0: 5, 3: age_ms})}
        return replace(WELL, kafka=replace(KAFKA, backlogs=backlogs))

    assert _condition("worker", waiting(BEHIND_MAX_MS))[0] is PartCondition.OK
    why = f"it is behind: on partition 3 a record has waited for {BEHIND_MAX_MS // 1000} s"
    assert _condition("worker", waiting(BEHIND_MAX_MS + 1)) == (PartCondition.WRONG, why)


def test_a_deployment_may_do_without_a_notary() -> None:
    found = replace(WELL, kafka=replace(KAFKA, groups={**KAFKA.groups, "notary": NONE}, signed_through=None))
    assert _condition("notary", found) == (PartCondition.OFF, "none runs, signed through no day yet")
    assert is_well(found, judged(found))


def test_servers_without_an_address_are_known_by_their_mailers() -> None:
    assert _condition("server", replace(WELL, roles=[]))[0] is PartCondition.OK
    away = replace(WELL, roles=[], kafka=replace(KAFKA, groups={**KAFKA.groups, "mail": NONE}))
    assert _condition("server", away) == (PartCondition.WRONG, "none runs")


def test_a_role_that_was_named_is_a_part_of_its_own() -> None:
    found = replace(
        WELL, roles=[*WELL.roles, RoleFound("worker-2:8001", "http://worker-2:8001", {"worker": "opening"})]
    )
    assert _condition("worker-2:8001", found) == (PartCondition.WRONG, "worker: opening")


def test_books_that_differed_when_they_were_compared_last_are_not_well() -> None:
    found = replace(WELL, kafka=replace(KAFKA, verified=LastVerify(AT_MS, 3)))
    why = "`metering verify` found 3 differences at 2026-06-12 23:59:59 IST"
    assert _condition("books", found) == (PartCondition.WRONG, why)
    assert not is_well(found, judged(found))

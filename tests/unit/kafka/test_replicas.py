"""How the replicas of a partition stand, from Kafka's metadata, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline import telemetry
from pipeline.kafka.replicas import ReplicasState, show, state_of


@pytest.fixture(autouse=True)
def _nothing_shown() -> Iterator[None]:
    yield
    telemetry.KAFKA_PARTITIONS.clear()


@pytest.mark.parametrize(
    ("leader", "in_sync", "state"),
    [
        (1, [1, 2, 3], ReplicasState.IN_SYNC),
        (1, [1, 3], ReplicasState.MISSING),
        (1, [1], ReplicasState.TOO_FEW),
        (-1, [], ReplicasState.LEADERLESS),
        (-1, [2], ReplicasState.LEADERLESS),
    ],
)
def test_of_three_replicas_two_have_to_be_in_sync(
    leader: int, in_sync: list[int], state: ReplicasState
) -> None:
    assert state_of({"leader": leader, "replicas": [1, 2, 3], "isr": in_sync}, min_insync=2) is state


def test_the_only_replica_of_a_partition_is_in_sync() -> None:
    assert state_of({"leader": 1, "replicas": [1], "isr": [1]}, min_insync=1) is ReplicasState.IN_SYNC


def test_each_state_is_shown_also_where_no_partition_is_in_it() -> None:
    whole = {"leader": 1, "replicas": [1, 2], "isr": [2, 1]}
    show([whole, whole, {"leader": -1, "replicas": [1, 2], "isr": [1]}], min_insync=1)
    shown = {
        state.value: telemetry.AROUND.registry.get_sample_value(
            "metering_kafka_partitions", {"replicas": state.value}
        )
        for state in ReplicasState
    }
    assert shown == {"in sync": 2, "missing": 0, "too few": 0, "leaderless": 1}

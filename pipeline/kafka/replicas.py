"""Watch how the replicas of the product's topics stand: which partitions could be lost, or cannot be written.

Owns: asking the brokers for it, and the gauge that shows it.
Called by: `api/server/main.py`.

It is what clients can see of a cluster with the right to describe its topics. What only the brokers know (disks, memory,
threads) is for their own exporter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pipeline import telemetry
from pipeline.connection import KafkaConnection
from pipeline.kafka.attempts import keep_looking
from pipeline.kafka.clients import started_admin
from pipeline.topics import TOPICS

LOOK_EVERY_S = 30.0
ASK_LIMIT_MS = 10_000


class ReplicasState(StrEnum):
    """How the replicas of a partition stand: the metric's label."""

    IN_SYNC = "in sync"
    MISSING = "missing"
    """Some are not in sync: another broker may not be lost."""
    TOO_FEW = "too few"
    """Fewer are in sync than `min.insync.replicas`: nothing can be written."""
    LEADERLESS = "leaderless"
    """Nobody leads it: nothing can be read or written."""


def state_of(partition: Mapping[str, Any], min_insync: int) -> ReplicasState:
    """Return how a partition stands, as Kafka's metadata has it (`leader`, `replicas`, `isr`)."""
    if partition["leader"] < 0:
        return ReplicasState.LEADERLESS
    in_sync = len(partition["isr"])
    if in_sync < min_insync:
        return ReplicasState.TOO_FEW
    return ReplicasState.IN_SYNC if in_sync >= len(partition["replicas"]) else ReplicasState.MISSING


def show(partitions: Iterable[Mapping[str, Any]], min_insync: int) -> None:
    """Set the gauge: how many partitions stand in each way."""
    found = Counter(state_of(partition, min_insync) for partition in partitions)
    for state in ReplicasState:
        telemetry.KAFKA_PARTITIONS.labels(state.value).set(found[state])


class ReplicasWatch:
    """Shows in the metrics how the replicas of our topics stand."""

    def __init__(self, kafka: KafkaConnection, min_insync: int, every_s: float = LOOK_EVERY_S) -> None:
        """Prepare to look every so many seconds; nothing is connected before `run`.

        `min_insync` is what `metering topics` gives each topic as `min.insync.replicas`.
        """
        self._kafka, self._min_insync, self._every_s = kafka, min_insync, every_s

    async def run(self) -> None:
        """Look until cancelled. Nothing is shown while Kafka does not answer."""
        name, unknown = "asking for the replicas of topics", "how the replicas of topics stand is not known"
        await keep_looking(self._look_on, name, unknown, self._every_s)

    async def _look_on(self) -> None:
        """Look until Kafka cannot be asked, over one connection."""
        try:
            async with started_admin(self._kafka, request_timeout_ms=ASK_LIMIT_MS) as admin:
                while True:
                    answer = await admin.describe_topics([topic.name for topic in TOPICS])
                    show((each for topic in answer for each in topic["partitions"]), self._min_insync)
                    await asyncio.sleep(self._every_s)
        finally:
            telemetry.KAFKA_PARTITIONS.clear()

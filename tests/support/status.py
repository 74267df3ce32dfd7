"""A deployment that is well, as `metering status` finds it: tests change what they are about."""

from __future__ import annotations

from dataclasses import replace

from pipeline import ist
from pipeline.status.found import (
    Backlog,
    ConsumerGroup,
    DeploymentFound,
    KafkaFound,
    LastVerify,
    LetterCount,
    OrderCount,
    RoleFound,
)

AT_MS = ist.day_end_ms(ist.day_of(1_781_260_000_000)) - 1
"""The last millisecond of 2026-06-12 in India."""
ALL = ConsumerGroup("Stable", 1, frozenset(range(4)))
NONE = ConsumerGroup("Empty", 0, frozenset())
DONE = Backlog({0: 0, 1: 0, 2: 0, 3: 0}, {})
KAFKA = KafkaFound(
    brokers=3,
    partitions=4,
    groups={
        "worker": replace(ALL, members=2),
        "sink": ALL,
        "mail": ALL,
        "webhooks": ALL,
        "notary": ConsumerGroup("Stable", 1, frozenset({0})),
    },
    backlogs={"worker": DONE, "sink": Backlog({0: 0, 1: 812, 2: 0, 3: 3}, {1: 412, 3: 71})},
    posted=123_456,
    dead_letters=LetterCount({"unpriced": 2, "malformed": 1}, is_whole=True),
    orders=OrderCount(4, is_whole=True),
    verified=LastVerify(AT_MS - 3_600_000, 0),
    signed_through="2026-06-11",
)
WELL = DeploymentFound(
    AT_MS,
    "metering",
    KAFKA,
    debited_nano=12_345_678_901_234_567_890,
    roles=[
        RoleFound("worker", "http://127.0.0.1:8001", {"worker": "ok"}),
        RoleFound("server", "http://127.0.0.1:8002", {"kafka": "ok", "clickhouse": "ok", "worker": "ok"}),
    ],
)

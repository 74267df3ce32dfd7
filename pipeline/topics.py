"""The Kafka topics: their names, and the settings they are created with.

Owns: names, partitioning, retention and size limits.
Called by: every door to Kafka; `kafka/admin.py` creates them.
"""

from __future__ import annotations

from dataclasses import dataclass

REQUESTS = "metering.requests"
BILLING = "metering.billing"
MOVED = "metering.moved"
JOURNAL = "metering.journal"
VERDICTS = "metering.verdicts"
CATALOG = "metering.catalog"
KEYS = "metering.keys"
PROMOS = "metering.promos"
ORDERS = "metering.orders"
REPLIES = "metering.replies"
MAIL = "metering.mail"
DEAD_LETTERS = "metering.dead-letters"
STATE = "metering.state.accounts"
SINK_STATE = "metering.state.sink"
MAIL_STATE = "metering.state.mail"
REDRIVE_STATE = "metering.state.redrive"

INPUTS = (REQUESTS, BILLING, MOVED)
"""What the worker reads: keyed by org, with the same partition count, so that one worker owns an org."""

RECORD_BYTES_MAX = 4 * 1024 * 1024
"""The largest record that may come in. What goes out may be larger, as it carries headers and rows."""
OUTPUT_BYTES_MAX = 16 * 1024 * 1024

_DAY_MS = 86_400_000
FOR_EVER = -1


@dataclass(frozen=True)
class Topic:
    """A topic and its settings. `partitioned` topics have the deployment's partition count, others one."""

    name: str
    partitioned: bool = True
    compacted: bool = False
    retention_ms: int = FOR_EVER
    bytes_max: int = OUTPUT_BYTES_MAX
    broker_time: bool = False

    def config(self, min_insync_replicas: int) -> dict[str, str]:
        """Return the topic's settings under Kafka's names."""
        settings = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": str(self.bytes_max),
            "min.insync.replicas": str(min_insync_replicas),
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }
        if not self.compacted:
            settings["retention.ms"] = str(self.retention_ms)
            settings["retention.bytes"] = "-1"
        return settings


TOPICS = (
    Topic(REQUESTS, retention_ms=60 * _DAY_MS, bytes_max=RECORD_BYTES_MAX, broker_time=True),
    Topic(BILLING, retention_ms=60 * _DAY_MS, bytes_max=RECORD_BYTES_MAX, broker_time=True),
    Topic(MOVED, broker_time=True),
    Topic(JOURNAL),
    Topic(VERDICTS, compacted=True),
    Topic(CATALOG, partitioned=False, compacted=True),
    Topic(KEYS, compacted=True),
    Topic(PROMOS, partitioned=False, compacted=True),
    Topic(ORDERS, compacted=True),
    Topic(REPLIES, retention_ms=_DAY_MS),
    Topic(MAIL, retention_ms=60 * _DAY_MS),
    Topic(DEAD_LETTERS),
    Topic(STATE, compacted=True),
    Topic(SINK_STATE, compacted=True),
    Topic(MAIL_STATE, compacted=True),
    Topic(REDRIVE_STATE, partitioned=False, compacted=True),
)

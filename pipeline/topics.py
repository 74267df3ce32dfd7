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
GATEWAYS = "metering.gateways"
ORDERS = "metering.orders"
REPLIES = "metering.replies"
SESSIONS = "metering.sessions"
TOKENS = "metering.tokens"
MAIL = "metering.mail"
WEBHOOKS = "metering.webhooks"
DEAD_LETTERS = "metering.dead-letters"
STATE = "metering.state.accounts"
BESIDE_JOURNAL = "metering.state.beside-journal"
SINK_STATE = "metering.state.sink"
MAIL_STATE = "metering.state.mail"
WEBHOOKS_STATE = "metering.state.webhooks"
REDRIVE_STATE = "metering.state.redrive"
VERIFY_STATE = "metering.state.verify"
CHECKPOINTS_STATE = "metering.state.checkpoints"
NOTARY_STATE = "metering.state.notary"
MIRROR_STATE = "metering.state.mirror"

INPUTS = (REQUESTS, BILLING, MOVED)
"""What the worker reads: keyed by org, with the same partition count, so that one worker owns an org."""

OWNER_KEY = b"\x00owner"
"""Key of the record without a value by which an owner learns whether it still is the owner. It means nothing."""

RECORD_BYTES_MAX = 4 * 1024 * 1024
"""The largest record that may come in. What goes out may be larger, as it carries headers and rows."""
OUTPUT_BYTES_MAX = 16 * 1024 * 1024

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
FOR_EVER = -1

ORDERS_KEPT_MS = 35 * _DAY_MS
"""How long servers know an order by themselves. Of an older one, paid or not, Razorpay is asked when it is needed."""
SESSIONS_KEPT_MS = 2 * _DAY_MS
"""How long it is known that a session is over. No session may last longer than half of it: `session_book.py`."""

TOKENS_KEPT_MS = 400 * _DAY_MS
"""How long an access token's record is kept: as long as one may last, and is told of after its end: `token_book.py`."""

WEBHOOKS_KEPT_MS = 2 * _DAY_MS
"""How long webhooks that nobody has read stay: longer than one is tried, `webhook/waiting.py`."""

# A compacted topic is read from its beginning by everyone who starts, and its newest segment is never compacted. So
# segments are short, and what is superseded goes soon: a start reads little more than there are keys.
SEGMENT_MS = 10 * _MINUTE_MS
SEGMENT_BYTES = 64 * 1024 * 1024
"""Larger than the largest record, which a segment has to hold."""
SUPERSEDED_SHARE = "0.2"
"""A partition is compacted once this share of its bytes has not been looked at."""
SUPERSEDED_MS_MAX = _HOUR_MS


@dataclass(frozen=True)
class Topic:
    """A topic and its settings. `partitioned` topics have the deployment's partition count, others one.

    What of a topic is to go after `retention_ms` goes segment by segment, so a short retention needs segments of
    `segment_ms`, shorter than Kafka's own week.

    A compacted topic with a `retention_ms` holds the newest record of each key that is no older than that.

    In a compacted topic a tombstone is kept for `tombstones_ms`, and so is the marker that ends a transaction: as
    each unit of work leaves one, there are soon far more markers than records. Who reads from the beginning has to
    get to the end within that time, and who was away for longer has to begin again.
    """

    name: str
    partitioned: bool = True
    compacted: bool = False
    retention_ms: int = FOR_EVER
    bytes_max: int = OUTPUT_BYTES_MAX
    tombstones_ms: int = _HOUR_MS
    broker_time: bool = False
    segment_ms: int | None = None

    def config(self, min_insync_replicas: int) -> dict[str, str]:
        """Return the topic's settings under Kafka's names."""
        settings = {
            "cleanup.policy": self._policy(),
            "max.message.bytes": str(self.bytes_max),
            "min.insync.replicas": str(min_insync_replicas),
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }
        if self.compacted:
            settings |= {
                "segment.ms": str(SEGMENT_MS),
                "segment.bytes": str(SEGMENT_BYTES),
                "min.cleanable.dirty.ratio": SUPERSEDED_SHARE,
                "max.compaction.lag.ms": str(SUPERSEDED_MS_MAX),
                "delete.retention.ms": str(self.tombstones_ms),
            }
            if self.retention_ms != FOR_EVER:
                settings["retention.ms"] = str(self.retention_ms)
        else:
            settings["retention.ms"] = str(self.retention_ms)
            settings["retention.bytes"] = "-1"
            if self.segment_ms is not None:
                settings["segment.ms"] = str(self.segment_ms)
        return settings

    def _policy(self) -> str:
        if not self.compacted:
            return "delete"
        return "compact" if self.retention_ms == FOR_EVER else "compact,delete"


TOPICS = (
    Topic(REQUESTS, retention_ms=60 * _DAY_MS, bytes_max=RECORD_BYTES_MAX, broker_time=True),
    Topic(BILLING, retention_ms=60 * _DAY_MS, bytes_max=RECORD_BYTES_MAX, broker_time=True),
    Topic(MOVED, retention_ms=60 * _DAY_MS, broker_time=True),
    Topic(JOURNAL),
    Topic(VERDICTS, compacted=True),
    Topic(CATALOG, partitioned=False, compacted=True, tombstones_ms=_DAY_MS, broker_time=True),
    Topic(KEYS, compacted=True, tombstones_ms=_DAY_MS),
    Topic(PROMOS, partitioned=False, compacted=True, tombstones_ms=_DAY_MS),
    Topic(GATEWAYS, partitioned=False, compacted=True, tombstones_ms=_DAY_MS),
    Topic(ORDERS, compacted=True, tombstones_ms=_DAY_MS, retention_ms=ORDERS_KEPT_MS),
    Topic(REPLIES, retention_ms=_DAY_MS),
    Topic(SESSIONS, partitioned=False, retention_ms=SESSIONS_KEPT_MS, segment_ms=_HOUR_MS, broker_time=True),
    Topic(
        TOKENS,
        partitioned=False,
        compacted=True,
        tombstones_ms=_DAY_MS,
        retention_ms=TOKENS_KEPT_MS,
        broker_time=True,
    ),
    Topic(MAIL, retention_ms=60 * _DAY_MS),
    Topic(WEBHOOKS, retention_ms=WEBHOOKS_KEPT_MS, segment_ms=_HOUR_MS),
    Topic(DEAD_LETTERS),
    Topic(STATE, compacted=True),
    Topic(BESIDE_JOURNAL, compacted=True),
    Topic(SINK_STATE, compacted=True),
    Topic(MAIL_STATE, compacted=True),
    Topic(WEBHOOKS_STATE, compacted=True),
    Topic(REDRIVE_STATE, partitioned=False, compacted=True),
    Topic(VERIFY_STATE, compacted=True),
    Topic(CHECKPOINTS_STATE, partitioned=False, compacted=True),
    Topic(NOTARY_STATE, partitioned=False, compacted=True),
)

MIRROR = Topic(MIRROR_STATE, partitioned=False, compacted=True)
"""How far a copy has come: on the cluster that it is on, and on no other, so it is none of TOPICS."""

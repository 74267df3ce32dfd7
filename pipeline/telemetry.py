"""Every metric of the product: its name, what it means, and its labels.

Owns: the metrics. They are set once per unit of work, insert or request of the API, never per event,
and no org, key or user is ever a label. And their text for Prometheus (`MetricsText`).
Called by: the doors. `docs/operations.md` tells what to look at first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_UNIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""The objectives of docs/objectives.md are among them: 1 s and 5 s."""

EVENTS = Counter("metering_events_total", "Request events read, whatever became of them")
CHARGED = Counter("metering_requests_posted_total", "Request events posted to the journal")
DUPLICATES = Counter("metering_duplicates_total", "Events that had been charged before")
DIFFERING_DUPLICATES = Counter(
    "metering_differing_duplicates_total",
    "Duplicates that were compared and are not what was charged: they are dropped all the same",
    ["kind"],
)
UNNUMBERED = Counter(
    "metering_unnumbered_total",
    "Numbered events checked as if they had no number: there are too many sources",
)
IRREGULAR = Counter(
    "metering_irregular_total", "Requests posted although the counts of their usage contradict each other"
)
MOVED = Counter("metering_moved_total", "Events that arrived on another org's partition and were moved")
DEAD_LETTERS = Counter("metering_dead_letters_total", "Events and commands not charged", ["reason"])
COMMANDS = Counter("metering_commands_total", "Commands carried out or refused")
DEBITED_RUPEES = Counter("metering_debited_rupees_total", "Rupees debited for requests")
UNITS = Histogram("metering_unit_seconds", "Time of a unit of work", ["topic"], buckets=_UNIT_SECONDS)
COMMIT = Histogram("metering_unit_commit_seconds", "Time of a unit's transaction", buckets=_UNIT_SECONDS)
UNIT_EVENTS = Histogram(
    "metering_unit_events", "Events in a unit of work", buckets=(1, 10, 100, 1_000, 10_000, 100_000)
)
WORKER_BEHIND = Gauge(
    "metering_worker_behind_seconds", "Age of the newest event posted, when it was posted", ["partition"]
)
VERDICT_LAG = Histogram(
    "metering_verdict_lag_seconds",
    "From when Kafka took the oldest event of a unit of work until its debits and verdicts were committed",
    buckets=_LAG_SECONDS,
)
PARTITIONS_OWNED = Gauge(
    "metering_worker_partitions",
    "Partitions this worker owns and works on: those that are being opened do not count",
)
ACCOUNTS = Gauge("metering_worker_accounts", "Accounts in this worker's memory", ["partition"])
RESTORE = Histogram("metering_restore_seconds", "Time to take over a partition", buckets=_UNIT_SECONDS)

LAG = Gauge(
    "metering_lag_offsets",
    "Offsets of a topic's partition between the broker's end and what is done here; markers of transactions count",
    ["part", "topic", "partition"],
)
STANDING = Gauge(
    "metering_standing_seconds",
    "For how long a partition has had something to do and nothing of it was done; 0 where it moves",
    ["part", "partition"],
)
OPENING = Gauge(
    "metering_opening_seconds",
    "For how long a partition has been assigned and is not open; absent where it is open",
    ["part", "partition"],
)
BROKER_SILENT = Gauge(
    "metering_broker_silent_seconds",
    "For how long Kafka has not answered what a part asks all the time",
    ["part"],
)

ENDS_DIFFER = Gauge(
    "metering_ends_differ",
    "1 where state, journal and inputs of a partition do not end together, else 0",
    ["partition"],
)
ENDS_COMPARED = Gauge(
    "metering_ends_compared_timestamp_seconds",
    "When the ends of a partition were compared last, in seconds since 1970",
    ["partition"],
)

BAD_RECORDS = Counter(
    "metering_bad_records_total", "Records of a followed topic that cannot be understood", ["topic"]
)

SINK_ROWS = Counter("metering_sink_rows_total", "Journal rows written to ClickHouse", ["kind"])
SINK_INSERT = Histogram("metering_sink_insert_seconds", "Time of an insert", buckets=_UNIT_SECONDS)
SINK_RETRIES = Counter("metering_sink_retries_total", "Inserts sent again after an unclear answer")
SINK_REFUSALS = Counter(
    "metering_sink_refusals_total",
    "What ClickHouse refused for certain: it is tried again, but only an operator can mend it",
)
SINK_PUT_BACK = Counter(
    "metering_sink_put_back_total", "Rows put back that ClickHouse lost when it was killed"
)
SINK_HELD = Gauge(
    "metering_sink_held_bytes", "Journal that the sink holds, waiting or on its way, its copies included"
)
SINK_BEHIND = Gauge(
    "metering_sink_behind_seconds", "Age of the newest row written, when it was written", ["partition"]
)

SINK_FRESHNESS = Histogram(
    "metering_sink_freshness_seconds",
    "From when the oldest row of an insert came into the journal until all of the insert was in ClickHouse",
    buckets=_LAG_SECONDS,
)

VERIFIED = Gauge(
    "metering_verified_timestamp_seconds",
    "When `metering verify` last ran to its end, in seconds since 1970; 0 where it never did",
)
VERIFY_DIFFERENCES = Gauge("metering_verify_differences", "Differences that the last `metering verify` found")

KAFKA_PARTITIONS = Gauge(
    "metering_kafka_partitions",
    "Partitions of the product's topics by their replicas: all in sync, some missing, fewer than may be written"
    " with, or without a leader",
    ["replicas"],
)

NOTARY_SIGNED_THROUGH = Gauge(
    "metering_notary_signed_through_timestamp_seconds",
    "The end of the last IST day that a checkpoint was signed of, in seconds since 1970; 0 before the first",
)

MAIL = Counter(
    "metering_mail_total",
    "Mails done with: sent, refused for good, unclear, expired, invalid, or skipped without a mail server",
    ["outcome"],
)
MAIL_RETRIES = Counter("metering_mail_retries_total", "Mails tried again after a definite refusal")
MAIL_WAITING = Gauge(
    "metering_mail_waiting", "Mails refused for now that wait for another try", ["partition"]
)

MONEY = Counter(
    "metering_money_records_total",
    "Payments and refunds by what became of them; `payment mismatched` and `stray` want a person to look",
    ["outcome"],
)
NOTICE_WEBHOOKS = Counter(
    "metering_notice_webhooks_total",
    "Webhooks done with: sent, gone (HTTP 410), expired or invalid",
    ["outcome"],
)
NOTICE_WEBHOOK_RETRIES = Counter(
    "metering_notice_webhook_retries_total", "Webhooks tried again after they were not taken"
)
NOTICE_WEBHOOKS_WAITING = Gauge(
    "metering_notice_webhooks_waiting", "Webhooks not taken yet that wait for another try", ["partition"]
)
NOTICES = Counter("metering_notices_total", "Notices to orgs ordered, beside low-balance mails", ["kind"])
ALERTS = Counter("metering_low_balance_alerts_total", "Low-balance mails ordered")

RAZORPAY = Histogram(
    "metering_razorpay_seconds", "Time of a call to Razorpay", ["call", "outcome"], buckets=_UNIT_SECONDS
)
WEBHOOKS = Counter("metering_webhooks_total", "Webhooks by what became of them", ["outcome"])
RECONCILED = Counter("metering_orders_asked_total", "Open orders asked about at Razorpay", ["outcome"])
ORDERS_OPEN = Gauge("metering_orders_open", "Orders of the last 7 days that are not paid")


def count_bad_record(topic: str) -> None:
    """Count a record of a followed topic that cannot be understood and was passed over."""
    BAD_RECORDS.labels(topic).inc()


TEXT_KEPT_MS = 1000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class MetricsText:
    """The metrics as Prometheus reads them, made once a second however many ask.

    Making the text takes time that grows with the labels there are, and whoever reaches the port may ask for it.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, now_ms: Callable[[], int] = _monotonic_ms
    ) -> None:
        """Start with nothing made; `now_ms` is the clock."""
        self._registry, self._now_ms, self._lock = registry, now_ms, Lock()
        self._text = b""
        self._made_ms: int | None = None

    def text(self) -> bytes:
        """Return the text of now, or of at most a second ago. Any thread may ask."""
        with self._lock:
            now_ms = self._now_ms()
            if self._made_ms is None or not 0 <= now_ms - self._made_ms < TEXT_KEPT_MS:
                self._text, self._made_ms = generate_latest(self._registry), now_ms
            return self._text

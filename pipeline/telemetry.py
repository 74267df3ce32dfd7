"""Every metric of the product: its name, what it means, its labels, and which roles show it.

Owns: the metrics. They are set once per unit of work, insert or request of the API, never per event,
and no org, key or user is ever a label. Names end in their unit, which is a base unit (seconds, bytes, rupees); counters
in `_total`. A metric is a number to look at, in floating point: what anybody owes is in the journal alone.
Called by: the doors. `docs/metrics.md` is made from this; `docs/operations.md` tells what to look at first.
"""

from __future__ import annotations

from pipeline.accounts.notices import TOLD_KINDS
from pipeline.exposition import MetricGroup
from pipeline.journal import COLUMNS
from pipeline.outcomes import DeadLetterReason, DuplicateKind, MoneyOutcome
from pipeline.release import release

RUNNING = MetricGroup("worker", "sink", "notary", "server")
READING = MetricGroup("worker", "sink", "notary", "server")
"""Whoever reads partitions of a topic as a member of a group; in a server mails and webhooks, too."""
FOLLOWING = MetricGroup("worker", "server")
"""Whoever keeps a whole topic in memory: rates, keys, orders, sessions."""
WORKER = MetricGroup("worker")
SINK = MetricGroup("sink", "server")
NOTARY = MetricGroup("notary", "server")
TELLING = MetricGroup("server")
"""Mails and webhooks to orgs."""
PAYMENTS = MetricGroup("server")
API = MetricGroup("server")
AROUND = MetricGroup("server")
"""What no role does by itself, seen by the servers: what the last `metering verify` came to, and Kafka's replicas."""
GROUPS = (RUNNING, READING, FOLLOWING, WORKER, SINK, NOTARY, TELLING, PAYMENTS, API, AROUND)

_UNIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""The objectives of docs/objectives.md are among them: 1 s and 5 s."""

BUILD = RUNNING.gauge("metering_build_info", "1, with the release that the process is of", ["version"])
BUILD.labels(release()).set(1)

EVENTS = WORKER.counter("metering_events_total", "Request events read, whatever became of them")
CHARGED = WORKER.counter("metering_requests_posted_total", "Request events posted to the journal")
DUPLICATES = WORKER.counter("metering_duplicates_total", "Events that had been charged before")
DIFFERING_DUPLICATES = WORKER.counter(
    "metering_differing_duplicates_total",
    "Duplicates that were compared and are not what was charged: they are dropped all the same",
    ["kind"],
    values=DuplicateKind,
)
UNNUMBERED = WORKER.counter(
    "metering_events_unnumbered_total",
    "Numbered events checked as if they had no number: there are too many sources",
)
IRREGULAR = WORKER.counter(
    "metering_requests_irregular_total",
    "Requests posted although the counts of their usage contradict each other",
)
MOVED = WORKER.counter(
    "metering_events_moved_total", "Events that arrived on another org's partition and were moved"
)
DEAD_LETTERS = WORKER.counter(
    "metering_dead_letters_total", "Events and commands not charged", ["reason"], values=DeadLetterReason
)
COMMANDS = WORKER.counter("metering_commands_total", "Commands carried out or refused")
DEBITED_RUPEES = WORKER.counter("metering_debited_rupees_total", "Rupees debited for requests")
UNITS = WORKER.histogram("metering_unit_seconds", "Time of a unit of work", ["topic"], buckets=_UNIT_SECONDS)
COMMIT = WORKER.histogram(
    "metering_unit_commit_seconds", "Time of a unit's transaction", buckets=_UNIT_SECONDS
)
UNIT_EVENTS = WORKER.histogram(
    "metering_unit_events", "Events in a unit of work", buckets=(1, 10, 100, 1_000, 10_000, 100_000)
)
WORKER_BEHIND = WORKER.gauge(
    "metering_worker_behind_seconds", "Age of the newest event posted, when it was posted", ["partition"]
)
VERDICT_LAG = WORKER.histogram(
    "metering_verdict_lag_seconds",
    "From when Kafka took the oldest event of a unit of work until its debits and verdicts were committed",
    buckets=_LAG_SECONDS,
)
PARTITIONS_OWNED = WORKER.gauge(
    "metering_worker_partitions",
    "Partitions this worker owns and works on: those that are being opened do not count",
)
ACCOUNTS = WORKER.gauge("metering_worker_accounts", "Accounts in this worker's memory", ["partition"])
RESTORE = WORKER.histogram("metering_restore_seconds", "Time to take over a partition", buckets=_UNIT_SECONDS)

LAG = READING.gauge(
    "metering_lag_offsets",
    "Offsets of a topic's partition between the log's end and what is done here; open transactions and markers of ended ones count",
    ["part", "topic", "partition"],
)
STANDING = READING.gauge(
    "metering_standing_seconds",
    "For how long a partition has had something to do and nothing of it was done; 0 where it moves",
    ["part", "partition"],
)
OPENING = READING.gauge(
    "metering_opening_seconds",
    "For how long a partition has been assigned and is not open; absent where it is open",
    ["part", "partition"],
)
BROKER_SILENT = READING.gauge(
    "metering_broker_silent_seconds",
    "For how long Kafka has not answered what a part asks all the time",
    ["part"],
)

ENDS_DIFFER = WORKER.gauge(
    "metering_ends_differ",
    "1 where state, journal and inputs of a partition do not end together, else 0",
    ["partition"],
)
ENDS_COMPARED = WORKER.gauge(
    "metering_ends_compared_timestamp_seconds",
    "When the ends of a partition were compared last, in seconds since 1970",
    ["partition"],
)

BAD_RECORDS = FOLLOWING.counter(
    "metering_bad_records_total", "Records of a followed topic that cannot be understood", ["topic"]
)

SINK_ROWS = SINK.counter(
    "metering_sink_rows_total", "Journal rows written to ClickHouse", ["kind"], values=COLUMNS
)
SINK_INSERT = SINK.histogram("metering_sink_insert_seconds", "Time of an insert", buckets=_UNIT_SECONDS)
SINK_RETRIES = SINK.counter("metering_sink_retries_total", "Inserts sent again after an unclear answer")
SINK_REFUSALS = SINK.counter(
    "metering_sink_refusals_total",
    "What ClickHouse refused for certain: it is tried again, but only an operator can mend it",
)
SINK_PUT_BACK = SINK.counter(
    "metering_sink_rows_put_back_total", "Rows put back that ClickHouse lost when it was killed"
)
SINK_HELD = SINK.gauge(
    "metering_sink_held_bytes", "Journal that the sink holds, waiting or on its way, its copies included"
)
SINK_BEHIND = SINK.gauge(
    "metering_sink_behind_seconds", "Age of the newest row written, when it was written", ["partition"]
)

SINK_FRESHNESS = SINK.histogram(
    "metering_sink_freshness_seconds",
    "From when the oldest row of an insert came into the journal until all of the insert was in ClickHouse",
    buckets=_LAG_SECONDS,
)

VERIFIED = AROUND.gauge(
    "metering_verified_timestamp_seconds",
    "When `metering verify` last ran to its end, in seconds since 1970; 0 where it never did",
)
VERIFY_DIFFERENCES = AROUND.gauge(
    "metering_verify_differences", "Differences that the last `metering verify` found"
)

KAFKA_PARTITIONS = AROUND.gauge(
    "metering_kafka_partitions",
    "Partitions of the product's topics by their replicas: all in sync, some missing, fewer than may be written"
    " with, or without a leader",
    ["replicas"],
)

NOTARY_SIGNED_THROUGH = NOTARY.gauge(
    "metering_notary_signed_through_timestamp_seconds",
    "The end of the last IST day that a checkpoint was signed of, in seconds since 1970; 0 before the first",
)

MAIL = TELLING.counter(
    "metering_mail_total",
    "Mails done with: sent, refused for good, unclear, expired, invalid, or skipped without a mail server",
    ["outcome"],
)
MAIL_RETRIES = TELLING.counter("metering_mail_retries_total", "Mails tried again after a definite refusal")
MAIL_WAITING = TELLING.gauge(
    "metering_mail_waiting", "Mails refused for now that wait for another try", ["partition"]
)

MONEY = WORKER.counter(
    "metering_money_records_total",
    "Payments and refunds by what became of them; `payment mismatched` and `stray` want a person to look",
    ["outcome"],
    values=MoneyOutcome,
)
NOTICE_WEBHOOKS = TELLING.counter(
    "metering_notice_webhooks_total",
    "Webhooks done with: sent, gone (HTTP 410), expired or invalid",
    ["outcome"],
)
NOTICE_WEBHOOK_RETRIES = TELLING.counter(
    "metering_notice_webhook_retries_total", "Webhooks tried again after they were not taken"
)
NOTICE_WEBHOOKS_WAITING = TELLING.gauge(
    "metering_notice_webhooks_waiting", "Webhooks not taken yet that wait for another try", ["partition"]
)
NOTICES = WORKER.counter(
    "metering_notices_total", "Notices to orgs ordered, beside low-balance mails", ["kind"], values=TOLD_KINDS
)
ALERTS = WORKER.counter("metering_low_balance_alerts_total", "Low-balance mails ordered")

RAZORPAY = PAYMENTS.histogram(
    "metering_razorpay_seconds", "Time of a call to Razorpay", ["call", "outcome"], buckets=_UNIT_SECONDS
)
WEBHOOKS = PAYMENTS.counter("metering_webhooks_total", "Webhooks by what became of them", ["outcome"])
RECONCILED = PAYMENTS.counter(
    "metering_orders_asked_total", "Open orders asked about at Razorpay", ["outcome"]
)
ORDERS_OPEN = PAYMENTS.gauge("metering_orders_open", "Orders of the last 7 days that are not paid")


def count_bad_record(topic: str) -> None:
    """Count a record of a followed topic that cannot be understood and was passed over."""
    BAD_RECORDS.labels(topic).inc()


def shown_by(role: str) -> tuple[MetricGroup, ...]:
    """Return the groups that a role shows, by the name of its command."""
    return tuple(group for group in GROUPS if role in group.roles)

"""Panels of the board: what to look at first, the worker, and how each partition stands.

Owns: these rows. Called by: `board.py`.
"""

from __future__ import annotations

from graphs import Graph, Query, Row, average, quantiles, rate

FIRST = Row(
    "First",
    (
        Graph(
            "Events a second",
            "Request events the workers read, and those that were posted to the journal. The gap is duplicates,"
            " moved events and dead letters.",
            "short",
            (
                Query(rate("metering_events_total"), "read"),
                Query(rate("metering_requests_posted_total"), "posted"),
            ),
        ),
        Graph(
            "Seconds behind",
            "How old the newest event was when it was charged (worker) and when it was in ClickHouse (sink). Keeps"
            " its last value while nothing comes in. Worker: gateways refuse that much later. Sink: pages show that"
            " much less.",
            "s",
            (
                Query("max(metering_worker_behind_seconds)", "worker"),
                Query("max(metering_sink_behind_seconds)", "sink"),
            ),
            alerts_above=10,
            runbook="docs/runbooks.md#meteringworkerbehind",
        ),
        Graph(
            "Dead letters a minute",
            "Events and commands that were not charged, by reason. Unpriced: a route has no rate. Malformed, invalid:"
            " a gateway sends what it should not. Too late, from the future: a clock is wrong.",
            "short",
            (Query(rate("metering_dead_letters_total", "reason", "60 * "), "{{reason}}"),),
            runbook="docs/runbooks.md#meteringdeadletters",
        ),
        Graph(
            "Rupees a minute debited",
            "What requests cost. Falls with traffic; where events stay and this falls, look at the rates and at BYOK.",
            "currencyINR",
            (Query(rate("metering_debited_rupees_total", times="60 * "), "debited"),),
        ),
    ),
)

WORKER = Row(
    "Worker",
    (
        Graph(
            "Time of a unit of work",
            "A batch of one topic and partition, from read to committed. Above 10 s without an end a worker ends itself.",
            "s",
            quantiles("metering_unit_seconds", "topic"),
            alerts_above=2.5,
            runbook="docs/runbooks.md#meteringunitsslow",
        ),
        Graph(
            "Time of a transaction",
            "The part of a unit that is Kafka's. Where this grows, look at the brokers' disks and replication.",
            "s",
            quantiles("metering_unit_commit_seconds"),
            alerts_above=1,
            runbook="docs/runbooks.md#meteringcommitsslow",
        ),
        Graph(
            "Events in a unit",
            "Grows with load, which is what keeps transactions rare. Thousands for long: add partitions or workers.",
            "short",
            (average("metering_unit_events"),),
        ),
        Graph(
            "Worker behind, by partition",
            "One partition far above the others: one large org, or a worker that is slow.",
            "s",
            (Query("max by (partition) (metering_worker_behind_seconds)", "{{partition}}"),),
            alerts_above=10,
            runbook="docs/runbooks.md#meteringworkerbehind",
        ),
        Graph(
            "Partitions owned",
            "By worker, those that are open. The sum must be the partition count; less than that, and some orgs are not charged.",
            "short",
            (
                Query("metering_worker_partitions", "{{instance}}"),
                Query("sum(metering_worker_partitions)", "all"),
            ),
            runbook="docs/runbooks.md#meteringpartitionsunowned",
        ),
        Graph(
            "Time to take over a partition",
            "Fencing the old owner and restoring its state, after each start and each rebalance.",
            "s",
            quantiles("metering_restore_seconds"),
        ),
        Graph(
            "Accounts in memory",
            "By partition, over the workers that own them.",
            "short",
            (Query("max by (partition) (metering_worker_accounts)", "{{partition}}"),),
        ),
        Graph(
            "Commands, duplicates, moved, irregular",
            "A second. Duplicates are events that had been charged before and cost nothing. Moved events came on"
            " another org's partition: a gateway partitions wrongly. Irregular ones were charged although the counts"
            " of their usage contradict each other. Unnumbered ones have a number, but of more sources than are remembered:"
            " a gateway names itself anew all the time.",
            "short",
            (
                Query(rate("metering_commands_total"), "commands"),
                Query(rate("metering_duplicates_total"), "duplicates"),
                Query(rate("metering_events_moved_total"), "moved"),
                Query(rate("metering_requests_irregular_total"), "irregular"),
                Query(rate("metering_events_unnumbered_total"), "unnumbered"),
            ),
        ),
        Graph(
            "Duplicates that differ",
            "A minute, by kind: the same event again with other content, or under another number. Nothing is charged"
            " for it. A producer is wrong: the worker's log names source and id.",
            "short",
            (Query(rate("metering_differing_duplicates_total", "kind", "60 * "), "{{kind}}"),),
        ),
        Graph(
            "Records that cannot be understood",
            "A minute, by topic: rates, promo codes, keys or orders that a part read and passed over. Its log names"
            " topic, partition and offset.",
            "short",
            (Query(rate("metering_bad_records_total", "topic", "60 * "), "{{topic}}"),),
        ),
    ),
)

PARTITIONS = Row(
    "Partitions",
    (
        Graph(
            "Lag",
            "Offsets between the broker's end of a topic's partition and what is done of it, the ten largest. Asked of"
            " the broker every 2 s, so a reader that is stuck shows. Markers of transactions count as offsets.",
            "short",
            (
                Query(
                    "topk(10, max by (part, topic, partition) (metering_lag_offsets))",
                    "{{part}} {{topic}} {{partition}}",
                ),
            ),
        ),
        Graph(
            "Standing still",
            "For how long a partition has had something to do and nothing of it was done, the ten longest. A worker ends"
            " itself after 10 s of it, 60 s where it waits for Kafka.",
            "s",
            (
                Query(
                    "topk(10, max by (part, partition) (metering_standing_seconds))",
                    "{{part}} {{partition}}",
                ),
            ),
            alerts_above=15,
            runbook="docs/runbooks.md#meteringpartitionstands",
        ),
        Graph(
            "Opening",
            "For how long a partition has been assigned and not open. Some seconds after a start or a rebalance.",
            "s",
            (Query("max by (part, partition) (metering_opening_seconds)", "{{part}} {{partition}}"),),
            alerts_above=60,
            runbook="docs/runbooks.md#meteringpartitionopening",
        ),
        Graph(
            "Ends that differ",
            "Partitions whose state, journal and inputs do not end together. Above 0 a topic has lost records: the runbook"
            " says what to do before anything is restarted.",
            "short",
            (Query("sum(metering_ends_differ)", "differ"),),
            runbook="docs/runbooks.md#meteringendsdiffer",
        ),
        Graph(
            "Since the ends were compared",
            "How long ago the partition was compared that waits longest. Each hour it falls to 0.",
            "s",
            (Query("time() - min(metering_ends_compared_timestamp_seconds)", "longest"),),
            alerts_above=3 * 3600,
            runbook="docs/runbooks.md#meteringendsnotcompared",
        ),
        Graph(
            "Kafka's silence",
            "For how long Kafka has not answered what each part asks every 2 s. After 10 s the part is not ready.",
            "s",
            (Query("max by (part, instance) (metering_broker_silent_seconds)", "{{part}} {{instance}}"),),
            alerts_above=15,
            runbook="docs/runbooks.md#meteringbrokersilent",
        ),
    ),
)

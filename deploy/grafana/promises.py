"""Panels of the board: what is promised, and whether it is kept: objectives, books, Kafka's replicas, gateways' spools.

Owns: this row. Called by: `board.py`.
"""

from __future__ import annotations

from graphs import RATE, Graph, Query, Row, quantiles

PROMISES = Row(
    "Promises",
    (
        Graph(
            "Objectives missed",
            "Over the last hour, as a multiple of what the objective's error budget allows: above 1 for long, and the 30 days'"
            " budget does not last; above 14.4 somebody is woken. docs/objectives.md has the objectives.",
            "short",
            (
                Query(
                    "max by (slo) (slo:metering_bad:ratio_rate1h / on (slo) slo:metering_budget:ratio)",
                    "{{slo}}",
                ),
            ),
            runbook="docs/runbooks.md#meteringbudgetburnsfast",
        ),
        Graph(
            "From event to verdict",
            "From when Kafka took the oldest event of a unit of work until its debits and verdicts were committed. The objective"
            " is 1 s.",
            "s",
            quantiles("metering_verdict_lag_seconds"),
        ),
        Graph(
            "From journal to page",
            "From when the oldest row of an insert came into the journal until the insert was in ClickHouse. The objective is"
            " 5 s. An event is on a page after both.",
            "s",
            quantiles("metering_sink_freshness_seconds"),
        ),
        Graph(
            "Books",
            "Hours since `metering verify` last ran to its end, and the differences it found. It should run each day.",
            "short",
            (
                Query(
                    "(time() - max(metering_verified_timestamp_seconds > 0)) / 3600",
                    "hours since",
                ),
                Query("max(metering_verify_differences)", "differences"),
            ),
            runbook="docs/runbooks.md#meteringbooksdiffer",
        ),
        Graph(
            "Kafka's replicas",
            "Partitions of our topics: all replicas in sync, some missing, too few to write, or without a leader.",
            "short",
            (Query("max by (replicas) (metering_kafka_partitions)", "{{replicas}}"),),
            runbook="docs/runbooks.md#meteringkafkareplicasmissing",
        ),
        Graph(
            "Gateways' spools",
            "How full, of what a spool may hold; at 100 % publishing is refused. Shown where gateways are scraped.",
            "percentunit",
            (
                Query(
                    "max by (instance) (metering_gateway_spool_bytes / metering_gateway_spool_limit_bytes)",
                    "{{instance}}",
                ),
            ),
            alerts_above=0.2,
            runbook="docs/runbooks.md#meteringspoolfills",
        ),
        Graph(
            "Gateways",
            "Events that wait in spools, records sent a second, and gateways that are ready, go by verdicts that are too old, or have a"
            " problem.",
            "short",
            (
                Query("sum(metering_gateway_waiting_events)", "events waiting"),
                Query(f"sum(rate(metering_gateway_records_sent_total{RATE}))", "records a second"),
                Query("sum(metering_gateway_ready)", "ready"),
                Query("sum(metering_gateway_stale)", "stale"),
                Query("sum(metering_gateway_problems > bool 0)", "with a problem"),
            ),
        ),
    ),
)

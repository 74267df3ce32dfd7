"""Panels of the board: the sink into ClickHouse, and the API.

Owns: these rows. Called by: `board.py`.
"""

from __future__ import annotations

from graphs import RATE, Graph, Query, Row, quantiles, rate

SINK = Row(
    "Sink and notary",
    (
        Graph(
            "Rows a second",
            "Journal rows written to ClickHouse, by kind. Requests here follow the posted events above.",
            "short",
            (Query(rate("metering_sink_rows_total", "kind"), "{{kind}}"),),
        ),
        Graph(
            "Time of an insert",
            "Until rows and roll-ups are on disk. One insert at a time in each partition.",
            "s",
            quantiles("metering_sink_insert_seconds"),
        ),
        Graph(
            "Inserts sent again a minute",
            "After an unclear answer, with the same token, so that no row is doubled. Rows that ClickHouse lost "
            "when it was killed are put back.",
            "short",
            (
                Query(rate("metering_sink_retries_total", times="60 * "), "retries"),
                Query(rate("metering_sink_rows_put_back_total", times="60 * "), "rows put back"),
                Query(rate("metering_sink_refusals_total", times="60 * "), "refused for certain"),
            ),
            runbook="docs/runbooks.md#meteringsinkretries",
        ),
        Graph(
            "Held in memory",
            "Journal that a sink has read and not written, its copies included. METERING_SINK_MEMORY_MIB is the "
            "limit; near it, the sink reads as fast as ClickHouse writes.",
            "bytes",
            (Query("max by (instance) (metering_sink_held_bytes)", "{{instance}}"),),
        ),
        Graph(
            "Since the last signed day",
            "How long ago the last day ended that a checkpoint was signed of. Each day it rises to 24 h, and falls soon "
            "after midnight (IST). Nothing is shown where no server has METERING_NOTARY_KEY.",
            "s",
            (
                Query(
                    "time() - max(metering_notary_signed_through_timestamp_seconds > 0)",
                    "since the last signed day",
                ),
            ),
            alerts_above=26 * 3600,
            runbook="docs/runbooks.md#meteringnotarystands",
        ),
        Graph(
            "Sink behind, by partition",
            "How old the newest row was when it was written.",
            "s",
            (Query("max by (partition) (metering_sink_behind_seconds)", "{{partition}}"),),
            alerts_above=30,
            runbook="docs/runbooks.md#meteringsinkbehind",
        ),
    ),
)

API = Row(
    "API",
    (
        Graph(
            "Requests a second",
            "By route.",
            "short",
            (Query(rate("metering_http_requests_total", "route"), "{{route}}"),),
        ),
        Graph(
            "Answers that are errors",
            "Share of all answers, by status. 4xx are the callers' own; 503 says that a part is down, 500 is a fault.",
            "percentunit",
            (
                Query(
                    f'sum by (code) (rate(metering_http_requests_total{{code=~"[45].."}}{RATE}))'
                    f" / on () group_left () {rate('metering_http_requests_total')}",
                    "{{code}}",
                ),
            ),
            runbook="docs/runbooks.md#meteringapierrors",
        ),
        Graph(
            "Connections let go",
            "A minute, by what they were answered: they were beyond a limit of size, time or number.",
            "short",
            (Query(rate("metering_http_connections_refused_total", "code", "60 * "), "{{code}}"),),
        ),
        Graph(
            "Time to answer",
            "Over all routes.",
            "s",
            quantiles("metering_http_request_seconds"),
            alerts_above=1,
            runbook="docs/runbooks.md#meteringapislow",
        ),
        Graph(
            "Slowest routes",
            "The 99th percentile of the five slowest. Those that change something wait for a worker's reply.",
            "s",
            (
                Query(
                    "topk(5, histogram_quantile(0.99, sum by (route, le)"
                    f" (rate(metering_http_request_seconds_bucket{RATE}))))",
                    "{{route}}",
                ),
            ),
        ),
        Graph(
            "Rankings computed a minute",
            "The public rankings are kept for some minutes; many more than that, and the cache does not hold.",
            "short",
            (Query(rate("metering_rankings_computed_total", times="60 * "), "computed"),),
        ),
    ),
)

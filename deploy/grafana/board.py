"""Write the Grafana board: what to look at first, then each part of the pipeline.

Owns: the panels. Their queries use the metrics of `pipeline/telemetry.py` and `pipeline/api/http/metrics.py`.
Called by: a person, after a change here; `tests/deploy` checks that the JSON is up to date.

    python deploy/grafana/board.py            writes deploy/grafana/dashboards/metering.json
    python deploy/grafana/board.py --check    exit 1 where that file differs
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, GridPos

BOARD = Path(__file__).parent / "dashboards" / "metering.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
RATE = "[$__rate_interval]"
WIDTH, HEIGHT = 24, 8


@dataclass(frozen=True)
class Query:
    """A PromQL expression and what its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Graph:
    """One panel: its title, what it tells and what to make of it, its unit and its queries."""

    title: str
    tells: str
    unit: str
    queries: tuple[Query, ...]


def rate(metric: str, by: str = "", times: str = "") -> str:
    """Return the rate of a counter, over all processes or by a label."""
    grouped = f" by ({by})" if by else ""
    return f"{times}sum{grouped} (rate({metric}{RATE}))"


def quantiles(histogram: str, by: str = "") -> tuple[Query, ...]:
    """Return the median and the 99th percentile of a histogram."""
    labels, legend = (f"{by}, le", f" {{{{{by}}}}}") if by else ("le", "")
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{RATE})))",
            f"p{q[2:]}{legend}",
        )
        for q in ("0.50", "0.99")
    )


def average(histogram: str) -> Query:
    """Return the mean of what a histogram observed."""
    return Query(f"{rate(f'{histogram}_sum')} / {rate(f'{histogram}_count')}", "mean")


ROWS: tuple[tuple[str, tuple[Graph, ...]], ...] = (
    (
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
            ),
            Graph(
                "Dead letters a minute",
                "Events and commands that were not charged, by reason. Unpriced: a route has no rate. Malformed, invalid:"
                " a gateway sends what it should not. Too late, from the future: a clock is wrong.",
                "short",
                (Query(rate("metering_dead_letters_total", "reason", "60 * "), "{{reason}}"),),
            ),
            Graph(
                "Rupees a minute debited",
                "What requests cost. Falls with traffic; where events stay and this falls, look at the rates and at BYOK.",
                "currencyINR",
                (Query(rate("metering_debited_rupees_total", times="60 * "), "debited"),),
            ),
        ),
    ),
    (
        "Worker",
        (
            Graph(
                "Time of a unit of work",
                "A batch of one topic and partition, from read to committed. Above 10 s without an end a worker ends itself.",
                "s",
                quantiles("metering_unit_seconds", "topic"),
            ),
            Graph(
                "Time of a transaction",
                "The part of a unit that is Kafka's. Where this grows, look at the brokers' disks and replication.",
                "s",
                quantiles("metering_unit_commit_seconds"),
            ),
            Graph(
                "Events in a unit",
                "Grows with load, which is what keeps transactions rare. Thousands for long: add partitions or workers.",
                "short",
                (average("metering_unit_events"),),
            ),
            Graph(
                "Behind, by partition",
                "One partition far above the others: one large org, or a worker that is slow.",
                "s",
                (Query("max by (partition) (metering_worker_behind_seconds)", "{{partition}}"),),
            ),
            Graph(
                "Partitions owned",
                "By worker, those that are open. The sum must be the partition count; less than that, and some orgs are not charged.",
                "short",
                (
                    Query("metering_worker_partitions", "{{instance}}"),
                    Query("sum(metering_worker_partitions)", "all"),
                ),
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
                    Query(rate("metering_moved_total"), "moved"),
                    Query(rate("metering_irregular_total"), "irregular"),
                    Query(rate("metering_unnumbered_total"), "unnumbered"),
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
    ),
    (
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
            ),
            Graph(
                "Opening",
                "For how long a partition has been assigned and not open. Some seconds after a start or a rebalance.",
                "s",
                (Query("max by (part, partition) (metering_opening_seconds)", "{{part}} {{partition}}"),),
            ),
            Graph(
                "Ends that differ",
                "Partitions whose state, journal and inputs do not end together, and the hours since the one that was compared"
                " longest ago. Above 0 a topic has lost records: the runbook says what to do before anything is restarted.",
                "short",
                (
                    Query("sum(metering_ends_differ)", "differ"),
                    Query("(time() - min(metering_ends_compared_timestamp_seconds)) / 3600", "hours since"),
                ),
            ),
            Graph(
                "Kafka's silence",
                "For how long Kafka has not answered what each part asks every 2 s. After 10 s the part is not ready.",
                "s",
                (Query("max by (part, instance) (metering_broker_silent_seconds)", "{{part}} {{instance}}"),),
            ),
        ),
    ),
    (
        "Sink",
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
                    Query(rate("metering_sink_put_back_total", times="60 * "), "rows put back"),
                    Query(rate("metering_sink_refusals_total", times="60 * "), "refused for certain"),
                ),
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
            ),
            Graph(
                "Behind, by partition",
                "How old the newest row was when it was written.",
                "s",
                (Query("max by (partition) (metering_sink_behind_seconds)", "{{partition}}"),),
            ),
        ),
    ),
    (
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
            ),
            Graph(
                "Connections let go",
                "A minute, by what they were answered: they were beyond a limit of size, time or number.",
                "short",
                (Query(rate("metering_http_connections_refused_total", "code", "60 * "), "{{code}}"),),
            ),
            Graph("Time to answer", "Over all routes.", "s", quantiles("metering_http_request_seconds")),
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
        ),
    ),
    (
        "Payments",
        (
            Graph(
                "Payments and refunds a minute",
                "By what became of them. Mismatched ones and strays want a person to look: metering reconcile.",
                "short",
                (Query(rate("metering_money_records_total", "outcome", "60 * "), "{{outcome}}"),),
            ),
            Graph(
                "Webhooks a minute",
                "By what became of them. Bad signatures: a wrong secret, or somebody trying.",
                "short",
                (Query(rate("metering_webhooks_total", "outcome", "60 * "), "{{outcome}}"),),
            ),
            Graph(
                "Calls to Razorpay",
                "Time of a call; how often open orders are asked about stands beside it.",
                "s",
                quantiles("metering_razorpay_seconds", "call"),
            ),
            Graph(
                "Open orders",
                "Orders of the last 7 days that are not paid, and answers a minute when they are asked about.",
                "short",
                (
                    Query("max(metering_orders_open)", "open"),
                    Query(rate("metering_orders_asked_total", "outcome", "60 * "), "asked: {{outcome}}"),
                ),
            ),
            Graph(
                "Low-balance mails ordered a minute",
                "One an org and 24 hours at most.",
                "short",
                (Query(rate("metering_low_balance_alerts_total", times="60 * "), "ordered"),),
            ),
        ),
    ),
    (
        "Mail",
        (
            Graph(
                "Mails a minute",
                "By what became of them. Refused, unclear and expired ones reach nobody; skipped: no mail server is set.",
                "short",
                (Query(rate("metering_mail_total", "outcome", "60 * "), "{{outcome}}"),),
            ),
            Graph(
                "Mails waiting",
                "Refused for now by the mail server; each is tried again until it is too old.",
                "short",
                (Query("sum(metering_mail_waiting)", "waiting"),),
            ),
            Graph(
                "Mails tried again a minute",
                "High and steady: the mail server turns us away.",
                "short",
                (Query(rate("metering_mail_retries_total", times="60 * "), "retries"),),
            ),
            Graph(
                "Notices ordered a minute",
                "By kind, beside low-balance mails: each goes out as a mail, as a webhook, or as both.",
                "short",
                (Query(rate("metering_notices_total", "kind", "60 * "), "{{kind}}"),),
            ),
            Graph(
                "Webhooks a minute",
                "By what became of them, and how many were tried again. Expired ones reached nobody within a day.",
                "short",
                (
                    Query(rate("metering_notice_webhooks_total", "outcome", "60 * "), "{{outcome}}"),
                    Query(rate("metering_notice_webhook_retries_total", times="60 * "), "tried again"),
                ),
            ),
            Graph(
                "Webhooks waiting",
                "Not taken yet by the orgs' receivers; each is tried again for a day.",
                "short",
                (Query("sum(metering_notice_webhooks_waiting)", "waiting"),),
            ),
        ),
    ),
    (
        "Processes",
        (
            Graph(
                "Memory",
                "Resident, by process. A worker holds the accounts of its partitions.",
                "bytes",
                (
                    Query(
                        'process_resident_memory_bytes{job=~"worker|sink|server|notary"}',
                        "{{job}} {{instance}}",
                    ),
                ),
            ),
            Graph(
                "Processor",
                "Cores in use, by process. A worker uses one at most: at 0.9, add workers.",
                "short",
                (
                    Query(
                        f'rate(process_cpu_seconds_total{{job=~"worker|sink|server|notary"}}{RATE})',
                        "{{job}} {{instance}}",
                    ),
                ),
            ),
            Graph(
                "Starts in 15 minutes",
                "A worker that starts again and again ends with code 70; its log says why.",
                "short",
                (
                    Query(
                        'sum by (job) (changes(process_start_time_seconds{job=~"worker|sink|server|notary"}[15m]))',
                        "{{job}}",
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
    ),
)


def panel(graph: Graph, number: int, place: GridPos) -> timeseries.Panel:
    """Return a graph as Grafana has it."""
    made = (
        timeseries.Panel()
        .id(number)
        .title(graph.title)
        .description(graph.tells)
        .datasource(SOURCE)
        .unit(graph.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(8)
        .grid_pos(place)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    for letter, query in zip("ABCDEFGH", graph.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(letter)
        made.with_target(target.datasource(SOURCE))
    return made


def board() -> str:
    """Return the board as JSON."""
    made = (
        dashboard.Dashboard("Metering")
        .uid("metering")
        .description("Charging, reporting and serving. The first row answers whether all is well.")
        .tags(["metering"])
        .timezone("Asia/Kolkata")
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    number, y = 0, 0
    for title, graphs in ROWS:
        number += 1
        row = dashboard.Row(title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=y))
        made.with_row(row)
        y += 1
        for start in range(0, len(graphs), 4):
            line = graphs[start : start + 4]
            width = WIDTH // len(line)
            for column, graph in enumerate(line):
                number += 1
                made.with_panel(panel(graph, number, GridPos(h=HEIGHT, w=width, x=column * width, y=y)))
            y += HEIGHT
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def main() -> int:
    """Write the board, or check the written one; the exit code."""
    made = board()
    if "--check" in sys.argv[1:]:
        return 0 if BOARD.read_text(encoding="utf-8") == made else 1
    BOARD.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

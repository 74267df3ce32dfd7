"""Write docs/metrics.md: every metric with its type, unit, labels and meaning, who shows it, and what looks at it.

Owns: the words about labels and units. All else is read: metrics from `pipeline/telemetry.py` and `pipeline/api/http/metrics.py`,
alerts and recording rules from `deploy/prometheus`, panels from the board's JSON in `deploy/grafana`.
Called by: a person, after a change of one of these: `python docs/metrics.py`; `tests/deploy` checks that the page is up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Imported so that its metrics are declared.
from pipeline.api.http import metrics as _api_metrics  # noqa: F401
from pipeline.contract_tables import table
from pipeline.exposition import MetricDescription, MetricGroup
from pipeline.telemetry import (
    API,
    AROUND,
    FOLLOWING,
    GROUPS,
    NOTARY,
    PAYMENTS,
    READING,
    RUNNING,
    SINK,
    TELLING,
    WORKER,
)

HOME = Path(__file__).resolve().parent
PAGE = HOME / "metrics.md"
RULES = sorted((HOME.parent / "deploy" / "prometheus").glob("*.yml"))
BOARD = HOME.parent / "deploy" / "grafana" / "dashboards" / "metering.json"

HEADINGS = {
    RUNNING: ("Every role", "While two releases run side by side, both are seen."),
    READING: (
        "Reading partitions",
        "Whoever reads partitions of a topic as a member of a group. `part` says which.",
    ),
    FOLLOWING: ("Following topics", "Whoever keeps a whole topic in memory."),
    WORKER: ("Charging", "Set once per unit of work."),
    SINK: (
        "Writing to ClickHouse",
        "By a server only where the sink runs beside it (`METERING_SERVER_SINK`).",
    ),
    NOTARY: ("Signing", "By a server only where it has `METERING_NOTARY_KEY`."),
    TELLING: ("Mails and webhooks to orgs", ""),
    PAYMENTS: ("Payments", ""),
    API: ("HTTP", "Set once per request."),
    AROUND: ("Books and Kafka", "Looked for by every server, every 15 and 30 seconds."),
}

LABELS = {
    "call": "the call to Razorpay, by the name of the client's method",
    "code": "the HTTP status of the answer; `0` where the caller left before it",
    "kind": "of rows: `requests` or `ledger`; of notices and differing duplicates: which it is",
    "method": "the HTTP method; `other` for what is none",
    "outcome": "what became of it, in a word or two",
    "part": "who reads: `worker`, `sink`, `mail`, `webhooks`, `notary`",
    "partition": "the number of the partition",
    "reason": "why, as the header of the dead letter says it: [errors.md](errors.md#what-could-not-be-charged)",
    "replicas": "how the replicas of a partition stand: `in sync`, `missing`, `too few` (nothing can be written), `leaderless`",
    "route": "the route's template, never a path as it came; `unmatched` for what is none",
    "topic": "the topic",
    "version": "the release, as `metering --version` says it",
}

UNITS = (
    ("_timestamp_seconds", "seconds since 1970"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
    ("_rupees", "rupees"),
    ("_offsets", "offsets"),
    ("", "number"),
)

_PAGE = """\
# Metrics

Made by `python docs/metrics.py` from `pipeline/telemetry.py`, `pipeline/api/http/metrics.py`, the rules in `deploy/prometheus`
and the board in `deploy/grafana`: change these.

Each role answers `/metrics` on a port of its own ([deploy.md](deploy.md#alive-ready-well)), in Prometheus' text format, made at
most once a second. It shows the metrics of what it does and no others. Names follow
[Prometheus' conventions](https://prometheus.io/docs/practices/naming/): base units at the end, counters in `_total`; a
histogram has `_bucket`, `_sum` and `_count`. Counters of what is told apart by a closed list of words begin at 0 for each
word, so that the first of a kind is an increase too. Samples are floating point numbers to look at: what anybody owes is
in the journal alone, in integers.

The library adds the process's own: `process_resident_memory_bytes`, `process_cpu_seconds_total`,
`process_start_time_seconds`, `process_open_fds`, `python_gc_...`, `python_info`.

**Labels.** No org, key or user is ever a label: their number has no bound.

{labels}

{sections}

## Gateways

A gateway needs no library for metrics, so its own are not among these: its node serves the text that
`pipeline.gateway.metrics` makes of its status ([gateway.md](gateway.md#its-numbers)): `metering_gateway_ready`, `_stale`, `_problems`,
`_waiting_events`, `_spool_bytes`, `_spool_limit_bytes` and `_records_sent_total`, without labels.
"""


@dataclass(frozen=True)
class Watcher:
    """Something that looks at metrics: what it is called on the page, and its PromQL with recorded series spelled out."""

    name: str
    expression: str

    def looks_at(self, metric: str) -> bool:
        """Return whether its expression asks for a metric, or for a series of a histogram."""
        return re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", self.expression) is not None


def _rules() -> list[dict[str, Any]]:
    read = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for file in read for group in file.get("groups", ()) for rule in group["rules"]]


def spelled_out(expression: str, recorded: dict[str, str]) -> str:
    """Return a PromQL expression followed by those of the recorded series that it asks for, and of those that they do."""
    found = [expression]
    for each in found:
        found += [recorded[name] for name in recorded if name in each and recorded[name] not in found]
    return "\n".join(found)


def alerts() -> list[Watcher]:
    """Return every alert, its name as a link to its runbook."""
    rules = _rules()
    recorded = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    return [
        Watcher(
            f"[{rule['alert']}]({rule['annotations']['runbook'].removeprefix('docs/')})",
            spelled_out(rule["expr"], recorded),
        )
        for rule in rules
        if "alert" in rule
    ]


def panels() -> Iterator[Watcher]:
    """Yield every panel of the board, named by its row and title."""
    recorded = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
    row = ""
    for panel in json.loads(BOARD.read_text(encoding="utf-8"))["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        asked = "\n".join(target["expr"] for target in panel["targets"])
        yield Watcher(f"{row}: {panel['title']}", spelled_out(asked, recorded))


def unit(metric: MetricDescription) -> str:
    """Return the unit that a metric's name ends in."""
    name = metric.name.removesuffix("_total")
    return next(word for suffix, word in UNITS if name.endswith(suffix))


def _watching(metric: MetricDescription, watchers: Iterable[Watcher]) -> str:
    return "; ".join(each.name for each in watchers if each.looks_at(metric.name))


def _section(group: MetricGroup, alert_list: Sequence[Watcher], panel_list: Sequence[Watcher]) -> str:
    heading, words = HEADINGS[group]
    rows = [
        (
            f"`{metric.name}`",
            metric.kind,
            unit(metric),
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.tells,
            _watching(metric, panel_list),
            _watching(metric, alert_list),
        )
        for metric in group.metrics
    ]
    shown = f"Shown by: {', '.join(f'`{role}`' for role in group.roles)}. {words}".strip()
    return (
        f"## {heading}\n\n{shown}\n\n"
        f"{table(('metric', 'type', 'unit', 'labels', 'what it tells', 'on the board', 'alerts'), rows)}"
    )


def page() -> str:
    """Return the page. Raises KeyError where a label or a group of metrics has no words here."""
    used = sorted({label for group in GROUPS for metric in group.metrics for label in metric.labels})
    alert_list, panel_list = alerts(), list(panels())
    return _PAGE.format(
        labels=table(("label", "is"), [(f"`{label}`", LABELS[label]) for label in used]),
        sections="\n\n".join(_section(group, alert_list, panel_list) for group in GROUPS),
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""What the tests of the deployment share: the files, and which metrics there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

# Imported so that its metrics are declared.
from pipeline.api.http import metrics as _api_metrics  # noqa: F401
from pipeline.exposition import MetricDescription, MetricGroup
from pipeline.gateway.gateway import Status
from pipeline.gateway.metrics import exposition
from pipeline.telemetry import GROUPS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

_METRIC = re.compile(r"\b(?:\w+:)*metering_[\w:]+")


GATEWAY_STATUS = Status(
    ready=True,
    stale=False,
    verdict_age_ms=12,
    uncounted_ms=0,
    waiting_events=3,
    waiting_bytes=900,
    spool_bytes_max=1 << 30,
    records_sent=40,
    reservations_open=1,
    orgs_known=2,
    problems=("the spool's disk is full",),
)
"""How a gateway may stand."""


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """Return the anchors of a Markdown file's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def metrics_used(expression: str) -> set[str]:
    """Return the metrics of ours that a PromQL expression names, and what was recorded of them."""
    return set(_METRIC.findall(expression))


def metrics_exposed() -> set[str]:
    """Return every series name that the product exposes."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {
        metric.name + suffix
        for group in GROUPS
        for metric in group.metrics
        for suffix in suffixes.get(metric.kind, ("",))
    } | set(_gateways())


def metrics_recorded() -> set[str]:
    """Return every series name that Prometheus' rules make of others."""
    folder = DEPLOY / "prometheus"
    files = [read_yaml(folder / name) for name in read_yaml(folder / "prometheus.yml")["rule_files"]]
    rules = (rule for file in files for group in file["groups"] for rule in group["rules"])
    return {rule["record"] for rule in rules if "record" in rule}


def _gateways() -> Iterator[str]:
    """Yield what a gateway's node exposes."""
    for family in text_string_to_metric_families(exposition(GATEWAY_STATUS).decode()):
        yield from (sample.name for sample in family.samples)


def shown_otherwise(text: str, groups: Iterable[MetricGroup]) -> list[str]:
    """Return how a role's `/metrics` differs from what groups of metrics declare: one line each, none where it does not."""
    declared = {metric.name: metric for group in groups for metric in group.metrics}
    shown: dict[str, str] = {}
    wrong: list[str] = []
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("metering_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown[name] = family.type
        metric = declared.get(name)
        if metric is None:
            wrong.append(f"{name} is shown and not declared for this role")
            continue
        if (family.type, family.documentation) != (metric.kind, metric.tells):
            wrong.append(f"{name} is shown as a {family.type}: {family.documentation}")
        wrong += [
            f"{sample.name} has the labels {labels}"
            for sample in family.samples
            if (labels := sample.labels.keys() - {"le"}) != set(metric.labels)
        ]
    return wrong + [f"{name} is declared and not shown" for name in sorted(declared.keys() - shown.keys())]


def every_metric() -> list[MetricDescription]:
    """Return every metric that is declared."""
    return [metric for group in GROUPS for metric in group.metrics]

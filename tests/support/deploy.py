"""What the tests of the deployment share: the files, and which metrics there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from pipeline import telemetry
from pipeline.api.http import metrics
from pipeline.gateway.gateway import Status
from pipeline.gateway.metrics import exposition

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


def metrics_used(expression: str) -> set[str]:
    """Return the metrics of ours that a PromQL expression names, and what was recorded of them."""
    return set(_METRIC.findall(expression))


def metrics_exposed() -> set[str]:
    """Return every series name that the product exposes."""
    return {name for module in (telemetry, metrics) for name in _series(module)} | set(_gateways())


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


def _series(module: ModuleType) -> Iterator[str]:
    for metric in vars(module).values():
        if not isinstance(metric, Counter | Gauge | Histogram):
            continue
        (described,) = metric.describe()
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        yield from (described.name + suffix for suffix in suffixes.get(described.type, ("",)))

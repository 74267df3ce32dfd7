"""What the tests of the deployment share: the files, and which metrics there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram

from pipeline import telemetry
from pipeline.api.http import metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

_METRIC = re.compile(r"\b(?:\w+:)*metering_[\w:]+")


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def metrics_used(expression: str) -> set[str]:
    """Return the metrics of ours that a PromQL expression names, and what was recorded of them."""
    return set(_METRIC.findall(expression))


def metrics_exposed() -> set[str]:
    """Return every series name that the product exposes."""
    return {name for module in (telemetry, metrics) for name in _series(module)}


def _series(module: ModuleType) -> Iterator[str]:
    for metric in vars(module).values():
        if not isinstance(metric, Counter | Gauge | Histogram):
            continue
        (described,) = metric.describe()
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        yield from (described.name + suffix for suffix in suffixes.get(described.type, ("",)))

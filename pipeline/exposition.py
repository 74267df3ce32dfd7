"""How metrics are declared, and how their text for Prometheus is made (its exposition format).

Owns: a group of metrics, which says what each is and which roles show them, and the text of some groups.
Called by: `telemetry.py`, which has the groups and their metrics; the text is asked for at `/metrics` of each role, in
`status_server.py` and `api/routes/health.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

TEXT_KEPT_MS = 1000

# Beside each counter the library would show another series that says when it was made, which nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class MetricDescription:
    """What is known of a metric before anything is counted: for `docs/metrics.md`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    tells: str
    labels: tuple[str, ...]


class MetricGroup:
    """Metrics that the same roles show. What a role does nothing of is not in its text, where it would stand at 0."""

    def __init__(self, *roles: str) -> None:
        """Start an empty group that some roles show, by the names of their commands."""
        self.roles = roles
        self.registry = CollectorRegistry()
        self.metrics: list[MetricDescription] = []

    def counter(
        self, name: str, tells: str, labels: Sequence[str] = (), *, values: Iterable[str] = ()
    ) -> Counter:
        """Declare a counter. `values` are those that its one label can have: each is shown from the start on.

        So its first increment is one, where a series that begins at 1 would show none.
        """
        self._note(name, "counter", tells, labels)
        made = Counter(name, tells, labels, registry=self.registry)
        start_at_zero(made, values)
        return made

    def gauge(self, name: str, tells: str, labels: Sequence[str] = ()) -> Gauge:
        """Declare a gauge."""
        self._note(name, "gauge", tells, labels)
        return Gauge(name, tells, labels, registry=self.registry)

    def histogram(
        self, name: str, tells: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        """Declare a histogram; `buckets` are the upper bounds, in the unit at the end of its name."""
        self._note(name, "histogram", tells, labels)
        return Histogram(name, tells, labels, registry=self.registry, buckets=buckets)

    def _note(
        self, name: str, kind: Literal["counter", "gauge", "histogram"], tells: str, labels: Sequence[str]
    ) -> None:
        self.metrics.append(MetricDescription(name, kind, tells, tuple(labels)))


def start_at_zero(counter: Counter, values: Iterable[str]) -> None:
    """Show a counter with one label from the start on, at 0 for each of the label's values."""
    for value in values:
        counter.labels(value)


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class MetricsText:
    """Some groups of metrics and the process's own, as Prometheus reads them, made once a second however many ask.

    Making the text takes time that grows with the labels there are, and whoever reaches the port may ask for it.
    """

    def __init__(self, groups: Iterable[MetricGroup], now_ms: Callable[[], int] = _monotonic_ms) -> None:
        """Start with nothing made; `now_ms` is the clock."""
        # What the library itself shows of the process is in its own registry.
        self._registries = (REGISTRY, *(group.registry for group in groups))
        self._now_ms, self._lock = now_ms, Lock()
        self._text = b""
        self._made_ms: int | None = None

    def text(self) -> bytes:
        """Return the text of now, or of at most a second ago. Any thread may ask."""
        with self._lock:
            now_ms = self._now_ms()
            if self._made_ms is None or not 0 <= now_ms - self._made_ms < TEXT_KEPT_MS:
                self._text = b"".join(generate_latest(registry) for registry in self._registries)
                self._made_ms = now_ms
            return self._text

"""How a gateway stands, as Prometheus reads it: its node serves this text beside its own metrics.

Owns: the names of the gateway's metrics.
Called by: whoever runs a gateway. Next: `gateway/gateway.py` has the status.

The text is made here, as a gateway needs no library for metrics (the format:
https://prometheus.io/docs/instrumenting/exposition_formats/, «text-based format»). docs/gateway.md shows its use.
"""

from __future__ import annotations

from pipeline.gateway.gateway import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(status: Status) -> bytes:
    """Return the text of a gateway's metrics. All are gauges of this moment, but for the records sent."""
    made: list[str] = []
    for name, kind, meaning, value in (
        ("ready", "gauge", "1 where the gateway admits requests by verdicts that it has read", status.ready),
        ("stale", "gauge", "1 where its verdicts are older than it goes by", status.stale),
        ("problems", "gauge", "What is wrong now: disk, sending, following", len(status.problems)),
        (
            "waiting_events",
            "gauge",
            "Events in the spool that Kafka has not confirmed",
            status.waiting_events,
        ),
        ("spool_bytes", "gauge", "Their bytes", status.waiting_bytes),
        ("spool_limit_bytes", "gauge", "Bytes at which publishing is refused", status.spool_bytes_max),
        ("records_sent_total", "counter", "Kafka records sent", status.records_sent),
    ):
        metric = f"metering_gateway_{name}"
        made.append(f"# HELP {metric} {meaning}\n# TYPE {metric} {kind}\n{metric} {int(value)}\n")
    return "".join(made).encode()

"""(g1) to (g4): the gateway library, by name.

Called by: `bench/__main__.py`. Next: one module each.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from bench.gateway_admit import admit
from bench.gateway_lag import lag
from bench.gateway_overdraft import overdraft
from bench.gateway_publish import throughput
from bench.report import Report

BENCHMARKS: dict[str, Callable[..., Coroutine[None, None, Report]]] = {
    "g1": admit,
    "g2": lag,
    "g3": throughput,
    "g4": overdraft,
}

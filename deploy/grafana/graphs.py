"""What a panel of the Grafana board is made of: titles, units and queries, and the queries that many panels share.

Owns: how a counter, a histogram and a gauge are asked for.
Called by: `charging.py`, `promises.py`, `reporting.py`, `money.py` and `processes.py` beside it, which have the panels, and `board.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    """A PromQL expression and what its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Graph:
    """One panel: its title, what it tells and what to make of it, its unit and its queries.

    Where an alert looks at what it shows, `alerts_above` is drawn as a line, and `runbook` is told: a page and a heading.
    """

    title: str
    tells: str
    unit: str
    queries: tuple[Query, ...]
    alerts_above: float | None = None
    runbook: str = ""


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


@dataclass(frozen=True)
class Row:
    """A line of the board with its title, and the panels under it, four side by side."""

    title: str
    graphs: tuple[Graph, ...]

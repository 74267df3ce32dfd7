"""(g4) How far bursts on several gateways overrun a balance or a key's budget, beside the published bound.

Owns: many bursts over one deployment. docs/overdraft.md explains the figures.
Called by: `bench/gateway.py`. Next: `tests/support/gateway/bursts.py` has the burst and the arithmetic.
"""

from __future__ import annotations

import os

from bench.processes import bench
from bench.report import Report
from pipeline.catalog.rates import Rate
from pipeline.kafka.catalog import publish_rates
from pipeline.money import NANO_PER_RUPEE
from tests.support.gateway.bursts import Burst, Nodes, Plan, nodes_of

PARTITIONS = 4
NODES = (1, 2, 4)
PLANS = (
    Plan("costs told", NANO_PER_RUPEE),
    Plan("costs told, served for 30 ms", NANO_PER_RUPEE, service_s=0.03),
    Plan("no costs", NANO_PER_RUPEE, costs=False),
    Plan("no costs, served for 30 ms", NANO_PER_RUPEE, costs=False, service_s=0.03),
    Plan("a key's budget", NANO_PER_RUPEE, budget=True),
    Plan("a key's budget, served for 30 ms", NANO_PER_RUPEE, service_s=0.03, budget=True),
)
QUICK_PLANS = (PLANS[0], PLANS[2], PLANS[4])


async def overdraft(*, full: bool) -> Report:
    """(g4) The worst overrun of many bursts, beside the bound of that burst."""
    report = Report(
        "g4",
        "overrun of bursts against one org and key, rupees; 1 is there to spend",
        (
            "burst",
            "gateways",
            "runs",
            "worst overrun",
            "its bound",
            "worst share of bound",
            "spend/s",
            "lag ms, most",
        ),
    )
    times = 8 if full else 1
    before = os.getloadavg()[0]
    async with bench(PARTITIONS) as run:
        await publish_rates(
            run.connection, "metering", lambda *_: [Rate("krutrim-2", "krutrim", 0, 12_500, 3_125, 50_000)]
        )
        run.worker()
        async with nodes_of(run.broker.url, run.servers, run.home, PARTITIONS, max(NODES)) as nodes:
            for plan in PLANS if full else QUICK_PLANS:
                for number in NODES:
                    bursts = await _bursts(nodes, plan, number, times)
                    report.add(plan.name, number, times, *_figures(bursts))
    report.notes.append(f"Load of the machine before: {before:.1f}, after: {os.getloadavg()[0]:.1f}.")
    return report


async def _bursts(nodes: Nodes, plan: Plan, number: int, times: int) -> list[Burst]:
    return [await nodes.burst(plan, number) for _ in range(times)]


def _figures(bursts: list[Burst]) -> tuple[float, float, float, float, float]:
    """Return the worst overrun and the bound of that run, the largest share, the rate, the longest lag."""
    worst = max(bursts, key=lambda burst: burst.overrun_nano)
    return (
        worst.overrun_nano / NANO_PER_RUPEE,
        worst.bound_nano / NANO_PER_RUPEE,
        max(burst.overrun_nano / burst.bound_nano for burst in bursts),
        max(burst.rate_nano_s for burst in bursts) / NANO_PER_RUPEE,
        max(burst.lag_s for burst in bursts) * 1000,
    )

"""What a large deployment does each second, by simulation: units of work, transactions, inserts, and the cores for them.

    python -m bench.scale            the steps of docs/scale.md, as tables
    python -m bench.scale --check    a run against what was measured of a sink with 24 and with 256 partitions

Owns: the model. It takes the product's own bounds (how often a unit may begin, how large it may be, how sinks take turns),
and costs that were measured on one machine (docs/performance.md). What it leaves out is in docs/scale.md.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report import Report
from pipeline.partitioning import partition_of
from pipeline.sink.pace import Pace, turns_a_second
from pipeline.sink.partition import LINGER_MAX_S, LINGER_S
from pipeline.sink.ranges import RANGE_RECORDS_MAX
from pipeline.worker.service import UNIT_EVERY_S

UNIT_EVENTS_MAX = 25_000
"""What `FETCH_BYTES` of compressed events come to."""
SAMPLES_A_UNIT = 4
SECONDS = 20.0
SETTLING_S = 4.0
"""So long a run is not counted: partitions begin together, and then drift apart."""


@dataclass(frozen=True)
class Costs:
    """What things take, as measured (docs/performance.md); times on the wall beside them are a broker's and an engine's answers."""

    unit_worker_s: float = 0.003
    """CPU of the worker for a unit, however little is in it: half of the 6 ms that worker and broker take together."""
    unit_broker_s: float = 0.003
    event_worker_s: float = 11.4e-6
    event_broker_s: float = 5.3e-6
    row_sink_s: float = 11.7e-6
    """CPU of server, sink and embedded engine for a row."""
    insert_engine_s: float = 0.030
    commit_s: float = 0.010
    insert_s: float = 0.050


@dataclass(frozen=True)
class Deployment:
    """What is simulated. `orgs` share the events by Zipf's law: the n-th has n^-skew of the first one's.

    With 10,000 orgs and a skew of 1 the largest has a tenth of all events, with 0.5 a two-hundredth.
    """

    events_per_s: int
    partitions: int
    workers: int
    sinks: int = 1
    orgs: int = 10_000
    skew: float = 1.0


@dataclass(frozen=True)
class Unit:
    """A committed unit: the journal record that it wrote."""

    partition: int
    committed_s: float
    events: int
    waits_s: tuple[float, ...]
    """How long events in its midst waited from their coming until it was committed."""


@dataclass(frozen=True)
class Written:
    """An insert into ClickHouse."""

    at_s: float
    rows: int
    oldest_s: float
    """When the oldest of its rows was committed to the journal."""


@dataclass(frozen=True)
class Figures:
    """What a deployment does in a second, and how long things wait."""

    units_per_s: float
    events_a_unit: float
    transactions_per_s: float
    busiest_worker: float
    """The share of its one core that the busiest worker uses."""
    worker_cores: float
    broker_cores: float
    charged_p99_s: float
    inserts_per_s: float
    rows_an_insert: float
    written_p99_s: float
    """From the journal until it is in ClickHouse."""
    engine_cores: float


def largest(deployment: Deployment) -> float:
    """Return the largest org's share of all events."""
    return 1 / sum(_weights(deployment))


def _weights(deployment: Deployment) -> list[float]:
    return [float(n) ** -deployment.skew for n in range(1, deployment.orgs + 1)]


def rates(deployment: Deployment) -> list[float]:
    """Return the events a second of each partition, by the orgs that are in it."""
    weights = _weights(deployment)
    share = deployment.events_per_s / sum(weights)
    found = [0.0] * deployment.partitions
    for n, weight in enumerate(weights):
        found[partition_of(f"org-{n}", deployment.partitions)] += share * weight
    return found


def worker(mine: Sequence[tuple[int, float]], costs: Costs, seconds: float) -> Iterator[Unit]:
    """Yield a worker's units. Its partitions take turns on its one core, and commit side by side.

    `mine` are its partitions, each with its events a second; they come evenly.
    """
    free_s = 0.0
    taken = dict.fromkeys((partition for partition, _ in mine), 0)
    rate = dict(mine)
    phase = {
        partition: place / (len(mine) * each) for place, (partition, each) in enumerate(mine) if each > 0
    }
    ready = [(phase[partition] + 1 / rate[partition], partition) for partition in phase]
    heapq.heapify(ready)
    while ready:
        ready_s, partition = heapq.heappop(ready)
        began_s = max(ready_s, free_s)
        if began_s > seconds:
            continue
        come = int((began_s - phase[partition]) * rate[partition] + 1e-9)
        events = min(UNIT_EVENTS_MAX, max(1, come - taken[partition]))
        free_s = began_s + costs.unit_worker_s + events * costs.event_worker_s
        committed_s = free_s + costs.commit_s
        places = {
            taken[partition] + 1 + (events - 1) * n // (SAMPLES_A_UNIT - 1) for n in range(SAMPLES_A_UNIT)
        }
        came_s = [phase[partition] + place / rate[partition] for place in sorted(places)]
        yield Unit(partition, committed_s, events, tuple(committed_s - each for each in came_s))
        taken[partition] += events
        next_s = phase[partition] + (taken[partition] + 1) / rate[partition]
        heapq.heappush(ready, (max(committed_s, began_s + UNIT_EVERY_S, next_s), partition))


def sink(units: Sequence[Unit], partitions: int, costs: Costs) -> Iterator[Written]:
    """Yield a sink's inserts of what workers have written, in order of `committed_s`. It takes the product's own turns."""
    waiting: dict[int, deque[Unit]] = {}
    for unit in units:
        waiting.setdefault(unit.partition, deque()).append(unit)
    pace, turns = Pace(), turns_a_second(len(waiting), partitions)
    order = itertools.count()
    steps = [
        (found[0].committed_s + LINGER_S, next(order), partition, False)
        for partition, found in waiting.items()
    ]
    heapq.heapify(steps)
    while steps:
        now_s, _, partition, has_turn = heapq.heappop(steps)
        if not has_turn:
            heapq.heappush(steps, (now_s + pace.wait_s(now_s, turns), next(order), partition, True))
            continue
        found = waiting[partition]
        taken: list[Unit] = []
        while found and found[0].committed_s <= now_s and len(taken) < RANGE_RECORDS_MAX:
            taken.append(found.popleft())
        done_s = now_s + costs.commit_s + costs.insert_s
        yield Written(done_s, sum(unit.events for unit in taken), taken[0].committed_s)
        if found:
            linger_s = min(LINGER_MAX_S, max(LINGER_S, 2 * costs.insert_s))
            heapq.heappush(
                steps, (max(done_s, found[0].committed_s) + linger_s, next(order), partition, False)
            )


def simulate(deployment: Deployment, costs: Costs, seconds: float = SECONDS) -> Figures:
    """Return what a deployment does in a second, counted after its first seconds. Partitions are dealt out in turn."""
    shares = list(enumerate(rates(deployment)))
    done = [list(worker(shares[n :: deployment.workers], costs, seconds)) for n in range(deployment.workers)]
    units = sorted(itertools.chain(*done), key=lambda unit: unit.committed_s)
    inserts = [
        written
        for n in range(deployment.sinks)
        for written in sink(
            [unit for unit in units if unit.partition % deployment.sinks == n], deployment.partitions, costs
        )
    ]
    counted = [unit for unit in units if SETTLING_S <= unit.committed_s < seconds]
    written = [each for each in inserts if SETTLING_S <= each.at_s < seconds]
    over_s = seconds - SETTLING_S
    events, rows = sum(unit.events for unit in counted), sum(each.rows for each in written)
    busy = [
        sum(_worker_s(u, costs) for u in of if SETTLING_S <= u.committed_s < seconds) / over_s for of in done
    ]
    commits = len(counted) + len(written)
    return Figures(
        units_per_s=len(counted) / over_s,
        events_a_unit=events / max(1, len(counted)),
        transactions_per_s=commits / over_s,
        busiest_worker=max(busy),
        worker_cores=sum(busy),
        broker_cores=(commits * costs.unit_broker_s + events * costs.event_broker_s) / over_s,
        charged_p99_s=_percentile(
            [(wait, unit.events / len(unit.waits_s)) for unit in counted for wait in unit.waits_s], 0.99
        ),
        inserts_per_s=len(written) / over_s,
        rows_an_insert=rows / max(1, len(written)),
        written_p99_s=_percentile([(each.at_s - each.oldest_s, each.rows) for each in written], 0.99),
        engine_cores=(len(written) * costs.insert_engine_s + rows * costs.row_sink_s) / over_s,
    )


@dataclass(frozen=True)
class Bill:
    """What a deployment takes after a year, and its list price a month in rupees."""

    cores: int
    kafka_gb: int
    clickhouse_gb: int
    rupees: int


SECONDS_A_DAY = 86_400
REQUESTS_DAYS = 60
YEAR_DAYS = 365
REQUESTS_BYTES, JOURNAL_BYTES, CLICKHOUSE_BYTES = 82, 13, 28
"""On disk for an event, of one copy (docs/performance.md, docs/operations.md)."""
KAFKA_COPIES, CLICKHOUSE_COPIES = 3, 2
CORE_RUPEES, GB_PAISE = 2_700, 720
"""List prices a month: a vCPU with 4 GiB (0.0408 USD an hour) and a GB of SSD (0.08 USD), at 90 rupees a dollar."""
SPARE = 2
"""Half of each core is kept for what comes unevenly, and for the time that one of three is away."""
CORES_LEAST = 12
"""Three brokers with 2 cores each, two workers, a sink, a server, and 2 cores for ClickHouse."""


def bill(deployment: Deployment, figures: Figures) -> Bill:
    """Return what it takes after a year at a constant rate."""
    a_day = deployment.events_per_s * SECONDS_A_DAY
    used = figures.worker_cores + figures.broker_cores + figures.engine_cores
    cores = max(CORES_LEAST, int(SPARE * used) + 1)
    kafka_gb = a_day * KAFKA_COPIES * (REQUESTS_BYTES * REQUESTS_DAYS + JOURNAL_BYTES * YEAR_DAYS) // 10**9
    clickhouse_gb = a_day * CLICKHOUSE_COPIES * CLICKHOUSE_BYTES * YEAR_DAYS // 10**9
    rupees = cores * CORE_RUPEES + (kafka_gb + clickhouse_gb) * GB_PAISE // 100
    return Bill(cores, kafka_gb, clickhouse_gb, rupees)


def _worker_s(unit: Unit, costs: Costs) -> float:
    return costs.unit_worker_s + unit.events * costs.event_worker_s


def _percentile(weighted: list[tuple[float, float]], share: float) -> float:
    """Return the value below which `share` of the weight lies; 0 where there is nothing."""
    left = share * sum(weight for _, weight in weighted)
    for value, weight in sorted(weighted):
        left -= weight
        if left <= 0:
            return value
    return 0.0


STEPS = (
    Deployment(1_000, 12, 2),
    Deployment(10_000, 12, 2),
    Deployment(100_000, 48, 4),
    Deployment(1_000_000, 256, 32, sinks=4),
    Deployment(1_000_000, 256, 32, sinks=4, skew=0.5),
)
"""The steps of docs/scale.md."""
BROAD = (
    Deployment(1_000, 256, 4),
    Deployment(10_000, 256, 8),
    Deployment(100_000, 256, 16, sinks=2),
    Deployment(1_000_000, 256, 32, sinks=4, skew=0.5),
)
"""256 partitions from the first day on."""


def table(name: str, title: str, deployments: Sequence[Deployment], costs: Costs) -> Report:
    """Return a table of what deployments do."""
    report = Report(
        name,
        title,
        (
            *(
                "events/s",
                "largest org, %",
                "partitions",
                "workers",
                "units/s",
                "events a unit",
                "transactions/s",
            ),
            *("busiest worker, % of a core", "worker cores", "broker cores", "charged p99 ms"),
            *("inserts/s", "rows an insert", "written p99 s", "engine cores"),
            *("cores to rent", "Kafka GB", "ClickHouse GB", "rupees a month"),
        ),
    )
    for each in deployments:
        found = simulate(each, costs)
        costing = bill(each, found)
        report.add(
            *(each.events_per_s, round(100 * largest(each), 1), each.partitions, each.workers),
            *(round(found.units_per_s), round(found.events_a_unit, 1), round(found.transactions_per_s)),
            *(round(100 * found.busiest_worker), round(found.worker_cores, 1), round(found.broker_cores, 1)),
            *(round(1000 * found.charged_p99_s), round(found.inserts_per_s, 1), round(found.rows_an_insert)),
            *(round(found.written_p99_s, 1), round(found.engine_cores, 1)),
            *(costing.cores, costing.kafka_gb, costing.clickhouse_gb, costing.rupees),
        )
    return report


MEASURED_INSERTS_PER_S = {24: 33, 256: 30}
"""One sink on a real broker, rows coming to all partitions all the time (docs/deploy.md)."""


def check() -> bool:
    """Print the simulated inserts a second beside the measured ones; return whether they are within a tenth."""
    is_close = True
    for partitions, measured in MEASURED_INSERTS_PER_S.items():
        units = [
            Unit(partition, n * 0.1, 1, ())
            for n, partition in itertools.product(range(400), range(partitions))
        ]
        inserts = [each for each in sink(units, partitions, Costs()) if 8 <= each.at_s < 38]
        found = len(inserts) / 30
        print(f"{partitions} partitions: {found:.1f} inserts/s simulated, {measured} measured")
        is_close &= abs(found - measured) <= measured / 10
    return is_close


def main() -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what was measured")
    if parser.parse_args().check:
        return 0 if check() else 1
    costs = Costs()
    print(table("scale", "partitions as they are needed", STEPS, costs).markdown())
    print(table("scale-256", "256 partitions from the first day", BROAD, costs).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())

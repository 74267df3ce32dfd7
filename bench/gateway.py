"""(g1) to (g4): the gateway library. `python -m bench.gateway g1 g2 g3 g4`, all where none is named.

Owns: what `admit` costs a call, what one gateway can publish, and running the larger two beside them.
Called by: the command line. Next: `bench/gateway_lag.py`, `bench/gateway_overdraft.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from aiokafka import AIOKafkaProducer

from bench.events import event
from bench.gateway_lag import lag
from bench.gateway_node import request
from bench.gateway_overdraft import overdraft
from bench.processes import bench
from bench.report import Report, machine, percentile
from pipeline import topics
from pipeline.accounts.keys import KeyRecord
from pipeline.accounts.model import Refused
from pipeline.accounts.verdicts import Verdict
from pipeline.gateway import Gateway
from pipeline.gateway.admission import Admission
from pipeline.gateway.gateway import Durability

CALLS = 1_000
PASSES = 200
GATEWAY = "gateway/bench"


async def admit(*, full: bool) -> Report:
    """(g1) What one call of `admit` costs on each path."""
    report = Report("g1", "admit, nanoseconds a call", ("path", "best pass", "median pass", "p99 pass"))
    passes = PASSES * (10 if full else 1)
    made = _admission()
    for name, call in _calls(made).items():
        times = []
        for _ in range(passes):
            started = time.perf_counter_ns()
            for n in range(CALLS):
                call(n)
            times.append((time.perf_counter_ns() - started) / CALLS)
            for n in range(CALLS):
                made.release("org", "k", request_id=str(n))
        report.add(name, min(times), percentile(times, 0.5), percentile(times, 0.99))
    report.notes.append(
        f"A pass is {CALLS:,} calls, each through one function of the benchmark; {passes} passes."
    )
    return report


def _admission() -> Admission:
    made = Admission(_now_ms, when_stale="open", stale_after_ms=10_000, reservation_limit_ms=900_000)
    made.heard(_now_ms())
    refused = Refused("spent", "budget_exceeded", 0, 2**60, 10, 11)
    made.take_verdict(Verdict("org", 10**15, (refused,)))
    made.take_verdict(Verdict("dry", 0, ()))
    record = KeyRecord(
        org="org",
        key_id="limited",
        name="",
        prefix="",
        hash="",
        tier="standard",
        created_ms=0,
        rpm_limit=10**9,
    )
    made.take_key(record)
    return made


def _calls(made: Admission) -> dict[str, Callable[[int], object]]:
    """Return the paths; what they reserve is given back after each pass."""
    names = [str(n) for n in range(CALLS)]

    def with_cost(n: int) -> object:
        return made.admit("org", "k", max_cost_inr="0.85", request_id=names[n])

    def and_release(n: int) -> object:
        made.admit("org", "k", max_cost_inr="0.85", request_id=names[n])
        return made.release("org", "k", request_id=names[n])

    return {
        "nothing, the loop alone": lambda _: None,
        "common: money, no limit": lambda _: made.admit("org", "k"),
        "key with rpm_limit": lambda _: made.admit("org", "limited"),
        "with max_cost_inr and request_id, and its release": and_release,
        "with max_cost_inr and request_id": with_cost,
        "refused: budget": lambda _: made.admit("org", "spent"),
        "refused: no credits": lambda _: made.admit("dry", "k"),
    }


async def throughput(*, full: bool) -> Report:
    """(g3) What one gateway publishes with its spool on, beside a producer that waits for Kafka."""
    report = Report(
        "g3",
        "publish, one gateway process, spool on, sending to Kafka meanwhile",
        ("how", "publishers", "events/s", "p50 ms", "p99 ms", "CPU us an event"),
    )
    run_s = 10.0 if full else 4.0
    async with bench(4) as run:
        for publishers in (1, 64, 512):
            for durability in ("fsync", "process"):
                home = Path(tempfile.mkdtemp(dir=run.home))
                row = await _publish(run.broker.url, home, durability, publishers, run_s)
                report.add(f"publish, {durability}", publishers, *row)
            report.add(
                "aiokafka send_and_wait, acks=all", publishers, *await _send(run.servers, publishers, run_s)
            )
    return report


async def _publish(
    kafka_url: str, home: Path, durability: Durability, publishers: int, run_s: float
) -> tuple[float, float, float, float]:
    numbers = count()
    async with Gateway(kafka_url=kafka_url, node="bench", spool_dir=home, durability=durability) as gateway:

        async def one() -> None:
            n = next(numbers)
            await gateway.publish(request(f"org_{n % 1000:07d}", n))

        figures = await _repeat(one, publishers, run_s)
        # What is left in the spool is of no interest here.
        gateway._drain_limit_s = 0.5
    return figures


async def _send(servers: str, publishers: int, run_s: float) -> tuple[float, float, float, float]:
    numbers = count(1)
    async with AIOKafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, acks="all", compression_type="lz4"
    ) as producer:

        async def one() -> None:
            n = next(numbers)
            value = event(n, f"org_{n % 1000:07d}", GATEWAY, _now_ms())
            await producer.send_and_wait(topics.REQUESTS, value, partition=n % 4)

        return await _repeat(one, publishers, run_s)


async def _repeat(
    work: Callable[[], Awaitable[None]], at_once: int, run_s: float
) -> tuple[float, float, float, float]:
    """Return how often something can be done a second, its p50 and p99 in ms, and its CPU microseconds."""
    took_ms: list[float] = []
    end_s = time.monotonic() + run_s

    async def repeat() -> None:
        while (begun := time.monotonic()) < end_s:
            await work()
            took_ms.append((time.monotonic() - begun) * 1000)

    cpu_s, started = _cpu_s(), time.monotonic()
    await asyncio.gather(*(repeat() for _ in range(at_once)))
    wall_s, cpu_s = time.monotonic() - started, _cpu_s() - cpu_s
    done = len(took_ms)
    return done / wall_s, percentile(took_ms, 0.5), percentile(took_ms, 0.99), cpu_s / done * 1e6


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


BENCHMARKS: dict[str, Callable[..., Awaitable[Report]]] = {
    "g1": admit,
    "g2": lag,
    "g3": throughput,
    "g4": overdraft,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway")
    parser.add_argument("names", nargs="*", help="which: g1 g2 g3 g4; all where none is named")
    parser.add_argument("--full", action="store_true", help="more runs and longer ones")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    print(json.dumps(machine(), indent=1), "\n")
    for name in arguments.names or BENCHMARKS:
        report = asyncio.run(_run(BENCHMARKS[name], full=arguments.full))
        report.save()
        print(report.markdown(), flush=True)


async def _run(benchmark: Callable[..., Awaitable[Report]], *, full: bool) -> Report:
    return await benchmark(full=full)


if __name__ == "__main__":
    main()

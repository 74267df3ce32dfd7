"""(g3) What one gateway can publish with its spool on, and what an event costs it.

Owns: publishers at once against one gateway, and a plain producer that waits for Kafka beside them.
Called by: `bench/gateway.py`.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from aiokafka import AIOKafkaProducer

from bench.events import event
from bench.gateway_node import request
from bench.processes import bench
from bench.report import Report, percentile
from pipeline import topics
from pipeline.gateway import Gateway
from pipeline.gateway.gateway import Durability

GATEWAY = "gateway/bench"


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
            await producer.send_and_wait(topics.REQUESTS, value.encode(), partition=n % 4)

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

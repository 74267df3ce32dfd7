"""(g2) From publish on one gateway to refusal on both, with the lag's parts.

Owns: the load on two gateway processes, the probes, and where their time goes.
Called by: `bench/gateway.py`. Next: `bench/gateway_node.py` runs in each gateway process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.events import orgs_of
from bench.gateway_node import Job, Times
from bench.kafka import Filler, Headers, state_records
from bench.processes import COMMAND_KEY, Bench, bench
from bench.report import Report, percentile
from pipeline import topics
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import Credit, encode
from pipeline.accounts.verdicts import Verdict, decode_record
from pipeline.partitioning import partition_of

NODES = 2
PARTITIONS = 4
ORGS = 1_000
PROBES_A_NODE = 200
WARM_S = 8.0
"""The broker compiles itself while it runs: probes are sent once it is warm."""


async def lag(*, full: bool) -> Report:
    """(g2) Publish-to-refusal lag over two gateways at several loads."""
    report = Report(
        "g2",
        f"publish to refusal over {NODES} gateways, fsync, one worker, {PARTITIONS} partitions, ms",
        ("events/s and part", "p50", "p90", "p99", "most"),
    )
    for events_s in (5_000, 2_000, 200) if full else (5_000, 1_000):
        load = os.getloadavg()[0]
        nodes, decided = await _measure(events_s, run_s=20 if full else 10)
        for name, values in _parts(nodes, decided):
            figures = [percentile(values, share) for share in (0.5, 0.9, 0.99)]
            report.add(f"{events_s:,}: {name}", *figures, max(values))
        sent = sum(node.events for node in nodes)
        late_ms = max(node.late_s for node in nodes) * 1000
        report.notes.append(
            f"{events_s:,} events/s asked for: {sent:,} published. Load of the machine before: {load:.1f}, "
            f"after: {os.getloadavg()[0]:.1f}. A gateway's event loop was held up by at most {late_ms:.0f} ms."
        )
    return report


def _parts(nodes: list[Times], decided: dict[str, int]) -> Iterable[tuple[str, list[float]]]:
    """Yield each part of the probes' way, in milliseconds."""
    whole, spool, send, unit, delivery = [], [], [], [], []
    for node in nodes:
        for org, published in node.published.items():
            last = max(each.refused[org] for each in nodes)
            whole.append((last - published) / 1e6)
            spool.append((node.stored[org] - published) / 1e6)
            send.append((node.sent[org] - node.stored[org]) / 1e6)
            unit.append((decided[org] - node.sent[org]) / 1e6)
            delivery.append((last - decided[org]) / 1e6)
    yield "publish to refusal on both", whole
    yield "to the disk (publish returns)", spool
    yield "spool to Kafka's acknowledgement", send
    yield "until the worker has decided", unit
    yield "commit, delivery, refusal on the last", delivery


def _signed(partition: int, value: bytes | None) -> Headers:
    keys = CommandKeys.parse(COMMAND_KEY)
    return keys.headers(value or b"", partition, time.time_ns() // 1_000_000)


async def _measure(events_s: int, run_s: float) -> tuple[list[Times], dict[str, int]]:
    async with bench(PARTITIONS) as run:
        probes = [[f"probe_{n}_{i}" for i in range(PROBES_A_NODE)] for n in range(NODES)]
        flat = [org for each in probes for org in each]
        async with Filler(run.servers) as filler:
            for p in range(PARTITIONS):
                orgs = orgs_of(ORGS, PARTITIONS, p)
                await filler.fill(topics.STATE, p, state_records(p, PARTITIONS, orgs))
                here = [org for org in flat if partition_of(org, PARTITIONS) == p]
                credits_of = ((org.encode(), encode(Credit(f"c-{org}", org, 1, "probe"))) for org in here)
                await filler.fill(topics.BILLING, p, credits_of, partial(_signed, p))
        run.worker()
        start_ns = time.time_ns() + 6_000_000_000
        jobs = [
            Job(events_s // NODES, ORGS, run_s + WARM_S, WARM_S, start_ns, probes[n], flat)
            for n in range(NODES)
        ]
        nodes = await asyncio.gather(*(_run_node(run, n, job) for n, job in enumerate(jobs)))
        return list(nodes), await _decided(run, set(flat))


async def _run_node(run: Bench, number: int, job: Job) -> Times:
    spool = run.home / f"spool-{number}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.gateway_node", run.broker.url, f"bench-{number}", str(spool)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=16 * 1024 * 1024,
    )
    try:
        async with asyncio.timeout(120):
            out, _ = await process.communicate(msgspec.json.encode(job) + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return msgspec.json.decode(out, type=Times)


async def _decided(run: Bench, probes: set[str]) -> dict[str, int]:
    """Return when the worker wrote each probe's refusal, by the record's own time."""
    found: dict[str, int] = {}
    places = [TopicPartition(topics.VERDICTS, p) for p in range(PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=run.servers, auto_offset_reset="earliest") as consumer:
        consumer.assign(places)
        async with asyncio.timeout(60):
            while probes - found.keys():
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        said = decode_record(record.key or b"", record.value)
                        if isinstance(said, Verdict) and said.org in probes and said.balance_nano <= 0:
                            found[said.org] = record.timestamp * 1_000_000
    return found

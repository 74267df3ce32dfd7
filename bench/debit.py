"""(a) and (d): the debit path of one worker process, beside its peers.

Owns: filling the input, letting one real worker empty it, and the CPU it takes an event.
Called by: `bench/__main__.py`.

The topic is full before the worker starts. What is measured runs from the moment that it has restored
its partitions to its last commit, so that start and restore do not count; the plain Faust agent from its first
event to its last commit. CPU is the worker process's own; the broker's is beside it.

Kafka Streams reads the same topic of the same broker after the worker, warm: it has been through all of it
`WARM_UP_PASSES` times in the same process, so that starting and compiling do not count for it either.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench import streams
from bench.events import orgs_of, record_values
from bench.kafka import Filler, Sample, requests_places, run_out, state_records
from bench.processes import Bench, bench, cpu_s_of
from bench.report import Report
from bench.streams import Streams
from pipeline import topics
from pipeline.worker.partition import worker_group

GROUP = worker_group("metering")
IS_OURS = "is ours"
"""What a worker logs once it has restored a partition, before it reads any input of it."""
FIRST = "the first event is here"
"""What the plain Faust agent says."""
WARM_UP_PASSES = 2
"""After these, further passes did not take less CPU."""


@dataclass(frozen=True)
class Speed:
    """A rate over wall time, the CPU microseconds an event of the process, and of the broker."""

    events: int
    wall_s: float
    cpu_s: float
    broker_cpu_s: float = 0.0

    @property
    def a_second(self) -> float:
        """Events a second by the clock on the wall."""
        return self.events / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU microseconds an event."""
        return self.cpu_s / self.events * 1e6


@dataclass(frozen=True)
class Load:
    """What lies in the topic: `events` in records of `batch`, of `orgs` over `partitions`.

    Each org has an account with credit and, in the state, `registered_keys`; the events' keys are others.
    """

    events: int
    batch: int = 500
    orgs: int = 1_000
    partitions: int = 4
    registered_keys: int = 0


async def fill(run: Bench, load: Load) -> None:
    """Give every org credit and fill `metering.requests`."""
    now_ms = time.time_ns() // 1_000_000
    async with Filler(run.servers) as filler:
        for p in range(load.partitions):
            orgs = orgs_of(load.orgs, load.partitions, p)
            await filler.fill(topics.STATE, p, state_records(p, load.partitions, orgs, load.registered_keys))
            values = record_values(
                events=load.events // load.partitions,
                batch=load.batch,
                orgs=orgs,
                source=f"gateway/bench/{p}",
                now_ms=now_ms,
            )
            await filler.fill(topics.REQUESTS, p, ((None, value) for value in values))


async def worker_speed(load: Load) -> Speed:
    """Let one worker empty a full topic and return how fast it was."""
    async with bench(load.partitions) as run:
        await fill(run, load)
        return await empty(run, load)


async def empty(run: Bench, load: Load) -> Speed:
    """Start a worker on a full topic and return how fast it emptied it."""
    broker = run.broker.process.pid
    worker = run.worker()
    before = cpu_s_of(broker)
    samples = await run_out(run.servers, GROUP, requests_places(load.partitions), worker, ready_words=IS_OURS)
    return _between(samples, load, cpu_s_of(broker) - before)


def _between(samples: list[Sample], load: Load, broker_cpu_s: float) -> Speed:
    """Return the speed from the first sample to the last."""
    first, last = samples[0], samples[-1]
    records = last.records - first.records
    if not records:
        raise RuntimeError("the load was done in one unit: too little to measure")
    events = records * load.batch
    share = records / last.records
    return Speed(events, last.at_s - first.at_s, last.cpu_s - first.cpu_s, broker_cpu_s * share)


async def side_by_side(
    load: Load, javac: Path | None, forms: Mapping[str, int]
) -> tuple[Speed, dict[str, Speed]]:
    """Return the speed of one worker, and of Kafka Streams on the same input where there is a Java compiler.

    `forms` says, by name, how many rows Kafka Streams puts in a record of its journal. Raises RuntimeError where
    the two did not charge the same.
    """
    async with bench(load.partitions) as run:
        await fill(run, load)
        ours, theirs = await empty(run, load), dict[str, Speed]()
        for form, rows_a_record in forms.items():
            if javac is None:
                break
            run.stop_all()
            peer = Streams(run, f"peer-{rows_a_record}", rows_a_record)
            process = await peer.start(javac, WARM_UP_PASSES)
            broker = run.broker.process.pid
            before, places = cpu_s_of(broker), requests_places(load.partitions)
            samples = await run_out(run.servers, peer.group, places, process, ready_words=peer.is_ours)
            theirs[form] = _between(samples, load, cpu_s_of(broker) - before)
            await peer.check_same(load.events)
        return ours, theirs


async def consume_speed(load: Load) -> Speed:
    """Return how fast the same records are read and decoded alone."""
    async with bench(load.partitions) as run:
        await fill(run, load)
        process = run.program("peers.consume")
        words = run.home / "peers.consume.log"
        async with asyncio.timeout(120):
            while not words.read_text().strip():
                process.check()
                await asyncio.sleep(0.1)
        return Speed(*json.loads(words.read_text().splitlines()[-1]))


async def faust_speed(events: int) -> Speed:
    """Return how fast a plain Faust agent with a table and an output is on single events."""
    place = TopicPartition("peer.requests", 0)
    load = Load(events, batch=1, partitions=1)
    async with bench(1) as run:
        admin = AIOKafkaAdminClient(bootstrap_servers=run.servers)
        await admin.start()
        await admin.create_topics([NewTopic(name, 1, 1) for name in ("peer.requests", "peer.journal")])
        await admin.close()
        async with Filler(run.servers) as filler:
            values = record_values(
                events=events,
                batch=1,
                orgs=orgs_of(load.orgs, 1, 0),
                source="gateway/bench/0",
                now_ms=time.time_ns() // 1_000_000,
            )
            await filler.fill(place.topic, 0, ((None, value) for value in values))
        peer = run.program("peers.faust_table", "worker")
        return _between(await run_out(run.servers, "peer", [place], peer, ready_words=FIRST), load, 0.0)


def _least(speeds: Iterable[Speed]) -> Speed:
    """Return the run with the least CPU an event, as others use the machine too."""
    return min(speeds, key=lambda speed: speed.cpu_us)


async def best(load: Load, times: int) -> Speed:
    """Return the best of some runs of a worker, each on a broker of its own."""
    return _least([await worker_speed(load) for _ in range(times)])


async def debit_path(*, full: bool) -> Report:
    """(a) One worker, batches and single events, beside Kafka Streams, a plain Faust agent and raw consumption."""
    report = Report(
        "a",
        "debit path, one worker process, 1,000 orgs, 4 partitions, transactions on",
        ("program", "events/s", "CPU us an event", "broker CPU us", "times the plain Faust agent, by CPU"),
    )
    javac = streams.javac()
    if javac is None:
        report.notes.append(streams.LEFT_OUT)
        print(streams.LEFT_OUT, flush=True)
    size, times = (4, 3) if full else (1, 1)
    faust = await faust_speed(20_000 if full else 8_000)

    def add(name: str, speed: Speed) -> None:
        broker_us = speed.broker_cpu_s / speed.events * 1e6 or None
        report.add(name, speed.a_second, speed.cpu_us, broker_us, faust.cpu_us / speed.cpu_us)

    for name, batch, events in (("500 a record", 500, 800_000), ("single events", 1, 160_000)):
        load = Load(events * size, batch)
        forms = {f"Kafka Streams, {name}": batch}
        if batch > 1:
            forms[f"Kafka Streams, {name}, a record of the journal for each row"] = 1
        runs = [await side_by_side(load, javac, forms) for _ in range(times)]
        add(f"worker, {name}", _least(ours for ours, _ in runs))
        for form in forms if javac else ():
            add(form, _least(theirs[form] for _, theirs in runs))
            ratios = [theirs[form].cpu_us / ours.cpu_us for ours, theirs in runs]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            report.notes.append(
                f"{form}: {median(ratios):.2f} times the worker's CPU an event (runs: {each})."
            )
        add(f"reading and decoding alone, {name}", await consume_speed(load))
    add("plain Faust agent, table and output, single events", faust)
    report.notes.append(f"The best of {times} runs by CPU; {800_000 * size:,} events in the larger load.")
    return report


async def grid(*, full: bool) -> Report:
    """(d) How the debit path changes with orgs, partitions and the size of records."""
    report = Report(
        "d",
        "debit path by orgs, partitions and events a record",
        ("orgs", "partitions", "events a record", "events/s", "CPU us an event"),
    )
    loads = [
        Load(600_000, orgs=orgs) for orgs in ((1_000, 10_000, 100_000, 1_000_000) if full else (100_000,))
    ]
    loads += [Load(600_000, partitions=p) for p in ((1, 2, 8, 16) if full else (1, 16))]
    loads += [
        Load(max(60_000, min(600_000, 60_000 * batch)), batch=batch)
        for batch in ((1, 10, 100, 500, 1_000) if full else (10, 100))
    ]
    for load in loads:
        speed = await best(load, 2 if full else 1)
        report.add(load.orgs, load.partitions, load.batch, speed.a_second, speed.cpu_us)
    return report

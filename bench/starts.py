"""(s) Starts after a day: how long a gateway and a worker take to read what 24 hours have left on their topics.

Owns: a day of `metering.verdicts` and `metering.state.accounts` in the product's own records, and timing real starts.
Called by: `bench/__main__.py`. Next: `bench/segments.py` for the form of the logs.

The day is written into the broker's directory, time stamps and all, as nobody can wait for it. Markers that end
transactions are dropped some time after they were first looked at, by the clock of the wall: so the first part of the
day is compacted as if that time were over, and the rest with the settings that the topics have.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from bench import segments
from bench.debit import IS_OURS
from bench.kafka import CREDIT_NANO
from bench.processes import Bench, bench
from bench.report import Report
from bench.segments import Transaction
from pipeline import topics
from pipeline.accounts import verdicts
from pipeline.accounts.verdicts import PROGRESS_KEY, Verdict, VerdictProgress
from pipeline.gateway import Gateway
from pipeline.kafka.clients import started_admin
from pipeline.partitioning import partition_of
from pipeline.posting.progress import ALONE_EVERY_MS
from pipeline.posting.state import PartitionState
from pipeline.topics import SEGMENT_BYTES, SEGMENT_MS

HOURS, UNITS_A_S, OF_PARTITIONS = 24, 500, 24
"""The deployment: 500 units of work a second over 24 partitions. A few of these are written and read here."""
PARTITIONS = 4
ORGS = 400
"""Orgs of a partition: some 10,000 in all."""
SHAPES = 60
VERDICT_SHARE = 5
"""One unit in so many has a verdict to tell; the others write progress alone."""
HOUR_MS = 3_600_000
AS_BEFORE = {
    "segment.ms": "604800000",
    "segment.bytes": str(128 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.5",
    "max.compaction.lag.ms": str(2**63 - 1),
    "delete.retention.ms": "86400000",
}
QUIET_S, CLEANING_LIMIT_S = 40.0, 240.0
START_LIMIT_S = 400.0


@dataclass(frozen=True)
class Rules:
    """How the topics are set and how often progress is told: as it is, or as it was before."""

    name: str
    segment_ms: int
    segment_bytes: int
    progress_every_ms: int
    config: dict[str, str] | None
    markers_ms: int


NOW = Rules("now", SEGMENT_MS, SEGMENT_BYTES, ALONE_EVERY_MS, None, HOUR_MS)
BEFORE = Rules("before", 604_800_000, 128 * 1024 * 1024, 0, AS_BEFORE, 24 * HOUR_MS)


async def starts(*, full: bool) -> Report:
    """(s) A gateway's and a worker's start, with the topics' settings as they are and as they were."""
    report = Report(
        "s",
        f"starts after {HOURS if full else 2} hours at {UNITS_A_S} units/s on {OF_PARTITIONS} partitions, {PARTITIONS} of them",
        (
            "settings",
            "hours",
            "units",
            "MB written",
            "MB when compacted",
            "records a gateway reads",
            "s to a gateway's verdicts",
            "s to a worker's partitions",
        ),
    )
    for rules in (NOW, BEFORE):
        await _measure(report, rules, HOURS if full else 2)
    report.notes.append(
        f"All {OF_PARTITIONS} partitions have {OF_PARTITIONS // PARTITIONS} times as much; a gateway reads them all, "
        "a worker those that it owns."
    )
    return report


async def _measure(report: Report, rules: Rules, hours: int) -> None:
    end_ms = time.time_ns() // 1_000_000
    start_ms = end_ms - hours * HOUR_MS
    # What is older has lost its markers by now.
    settled_ms = max(start_ms, end_ms - rules.markers_ms * 3 // 2)
    async with bench(PARTITIONS) as run:
        if rules.config is not None:
            await _configure(run, rules.config)
        offsets = dict.fromkeys(_places(), 0)
        written = 0
        if settled_ms > start_ms:
            await _configure(run, {"delete.retention.ms": "0"}, beside=rules.config)
            written += await _write(run, rules, offsets, start_ms, settled_ms)
            await _until_clean(run)
            await _configure(run, {"delete.retention.ms": str(rules.markers_ms)}, beside=rules.config)
        written += await _write(run, rules, offsets, settled_ms, end_ms)
        await _until_clean(run)
        kept = _bytes(run)
        gateway_s, records = await _gateway(run)
        worker_s = await _worker(run)
        units = hours * 3600 * UNITS_A_S * PARTITIONS // OF_PARTITIONS
        report.add(rules.name, hours, units, written / 1e6, kept / 1e6, records, gateway_s, worker_s)


def _places() -> list[tuple[str, int]]:
    return [(topic, number) for topic in (topics.VERDICTS, topics.STATE) for number in range(PARTITIONS)]


async def _configure(run: Bench, config: dict[str, str], *, beside: dict[str, str] | None = None) -> None:
    """Set the settings of both topics; AlterConfigs replaces the set, so those of the product go along."""
    wanted = {topic.name: topic.config(1) for topic in topics.TOPICS}
    async with started_admin(run.connection) as admin:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, name, {**wanted[name], **(beside or {}), **config})
                for name in (topics.VERDICTS, topics.STATE)
            ]
        )


async def _write(
    run: Bench, rules: Rules, offsets: dict[tuple[str, int], int], from_ms: int, until_ms: int
) -> int:
    """Append a part of the day to both topics while the broker is stopped; return how many bytes."""
    await run.broker.stop()
    written = 0
    for topic, partition in _places():
        directory = run.broker.home / "data" / f"{topic}-{partition}"
        offset = offsets[topic, partition]
        if not offset:
            _empty(directory)
        units = _verdicts if topic == topics.VERDICTS else _states
        offsets[topic, partition], size = segments.write(
            directory,
            offset,
            units(partition, rules, from_ms, until_ms),
            segment_ms=rules.segment_ms,
            segment_bytes=rules.segment_bytes,
        )
        written += size
    # Without it the broker looks at the logs, and makes their indexes.
    (run.broker.home / "data" / ".kafka_cleanshutdown").unlink(missing_ok=True)
    await run.broker.start()
    return written


def _empty(directory: Path) -> None:
    for each in directory.iterdir():
        if each.name != "partition.metadata":
            each.unlink()


def _orgs(partition: int) -> list[str]:
    named = (f"org_{number:06d}" for number in range(10**6))
    return list(islice((org for org in named if partition_of(org, PARTITIONS) == partition), ORGS))


def _minutes(from_ms: int, until_ms: int) -> Iterator[int]:
    yield from range(from_ms, until_ms, 60_000)


def _verdicts(partition: int, rules: Rules, from_ms: int, until_ms: int) -> Iterator[Transaction]:
    """Yield what units write to `metering.verdicts`: verdicts with progress, progress alone, or nothing."""
    orgs, number, told_ms = cycle(_orgs(partition)), 0, 0
    for minute_ms in _minutes(from_ms, until_ms):
        progress = (PROGRESS_KEY, verdicts.encode(VerdictProgress(partition, number)))
        telling = []
        for _ in range(SHAPES):
            org = next(orgs)
            telling.append((org.encode(), verdicts.encode(Verdict(org, CREDIT_NANO - number, ()))))
        shapes = [segments.transaction([each, progress], minute_ms) for each in telling]
        alone = segments.transaction([progress], minute_ms)
        for unit_ms in _units(minute_ms):
            number += 1
            if number % VERDICT_SHARE == 0:
                told_ms = unit_ms
                yield shapes[number % SHAPES]
            elif unit_ms - told_ms >= rules.progress_every_ms:
                told_ms = unit_ms
                yield alone


def _states(partition: int, _rules: Rules, from_ms: int, until_ms: int) -> Iterator[Transaction]:
    """Yield what units write to the state topic: the account, the source of its requests, and the mark."""
    state = PartitionState(partition, PARTITIONS)
    orgs, number = cycle(_orgs(partition)), 0
    for minute_ms in _minutes(from_ms, until_ms):
        shapes = []
        for _ in range(SHAPES):
            account = state.account(next(orgs))
            account.spending.credited_nano = CREDIT_NANO
            account.spending.debited_nano += number
            source = f"gateway/mum-{number % 20}/0123456789abcdef"
            state.sources.last[source] = number
            state.meta.posted_ms = minute_ms
            saved = [
                *state.save_account(account, profile_too=False),
                *state.save_checks({source: None}),
                state.save_meta(),
            ]
            shapes.append(segments.transaction([(key, value) for key, value in saved], minute_ms))
            number += 1
        units = _units(minute_ms)
        yield from (shape for _, shape in zip(units, cycle(shapes), strict=False))


def _units(minute_ms: int) -> range:
    """Return the instants of a partition's units within a minute."""
    return range(minute_ms, minute_ms + 60_000, 1000 * OF_PARTITIONS // UNITS_A_S)


async def _until_clean(run: Bench) -> None:
    """Return when the broker has not changed the logs for a while: it has compacted what it will."""
    deadline, seen, since = time.monotonic() + CLEANING_LIMIT_S, -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < QUIET_S:
        now = _bytes(run)
        if now != seen:
            seen, since = now, time.monotonic()
        await asyncio.sleep(1)


def _bytes(run: Bench) -> int:
    data = run.broker.home / "data"
    total = 0
    for topic, number in _places():
        for each in (data / f"{topic}-{number}").glob("*.log"):
            # The broker may just have compacted it away.
            with suppress(FileNotFoundError):
                total += each.stat().st_size
    return total


async def _gateway(run: Bench) -> tuple[float, int]:
    """Start a gateway; return the seconds to its first verdicts, and how many records it read."""
    home = Path(tempfile.mkdtemp(prefix="metering-bench-spool-"))
    gateway = Gateway(
        kafka_url=run.broker.url, node="bench", spool_dir=home / "spool", ready_limit_s=START_LIMIT_S
    )
    started = time.monotonic()
    try:
        async with gateway:
            return time.monotonic() - started, gateway._follower.records
    finally:
        shutil.rmtree(home)


async def _worker(run: Bench) -> float:
    """Start a worker; return the seconds until all partitions are restored, with the start of the process."""
    started = time.monotonic()
    worker = run.worker()
    async with asyncio.timeout(START_LIMIT_S):
        while worker.log.read_text().count(IS_OURS) < PARTITIONS:
            worker.check()
            await asyncio.sleep(0.02)
    taken_s = time.monotonic() - started
    worker.stop()
    return taken_s

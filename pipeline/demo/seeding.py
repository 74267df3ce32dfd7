"""Put the platform in: rates, orgs, keys, credits, and 30 days of history, each exactly once.

Owns: the order of these, and that a second try has no second effect.
Called by: `demo/main.py`. Next: `kafka/catalog.py`, `kafka/commands.py`; history goes straight to Kafka.

Commands have ids made of the marker's run, and events have numbers, so a repetition changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline import ist, topics
from pipeline.accounts.commands import AccountCommand, CommandRefusal, CreateKey, Credit, SignUp
from pipeline.accounts.keys import PREFIX_CHARS, hash_key
from pipeline.catalog.apply import parse_file, plan
from pipeline.catalog.rates import Rate, RateTable
from pipeline.connection import KafkaConnection
from pipeline.demo.figures import Figures, figures
from pipeline.demo.marker import Marker
from pipeline.demo.platform import ORGS, DemoOrg
from pipeline.demo.traffic import DAYS, SOURCE, TrafficBatch, history
from pipeline.events import Timestamps
from pipeline.kafka import clients
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient
from pipeline.kafka.partitions import partition_count
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.shipped import shipped

CATALOG_FILE = shipped("deploy/catalog.yaml")
COMMAND_LIMIT_S = 30.0
KEPT_DAYS = 34
"""Older events are no longer charged (35 days is the limit): a seeding taken up later leaves them out."""
_SAY_EVERY = 40
_encode = msgspec.json.Encoder().encode
_timestamps = Timestamps()

Say = Callable[[str], None]


class SeedingError(Exception):
    """The platform cannot be put in, for a reason a person can read."""


async def seed(settings: Settings, marker: Marker, say: Say) -> dict[str, int]:
    """Put everything in; once it is all on Kafka, return how many requests of each org there are.

    Raises SeedingError, CatalogError, KafkaError, UnavailableError.
    """
    rates = table_of(catalog(marker.now_ms))
    batches = list(history(marker.seed, marker.now_ms, rates))
    await _open(settings, marker, figures(batches, marker.seed, marker.rate, marker.now_ms, rates), say)
    await _publish(settings.kafka, batches, say)
    counted: Counter[str] = Counter()
    for batch in batches:
        counted[batch.org] += len(batch.events)
    return dict(counted)


def catalog(now_ms: int, file: Path = CATALOG_FILE) -> list[Rate]:
    """Return the rates of the catalog file, in force since before the history began.

    Raises SeedingError where the file is not there, and CatalogError where it is not right.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise SeedingError(f"the demo needs the catalog {file}: {error.strerror}") from None
    start_ms = ist.day_start_ms(ist.day_of(now_ms) - DAYS)
    rates = parse_file(text, file.name)
    first = {route: min(r.from_ms for r in rates if r.route == route) for route in {r.route for r in rates}}
    return [
        msgspec.structs.replace(rate, from_ms=min(rate.from_ms, start_ms))
        if rate.from_ms == first[rate.route]
        else rate
        for rate in rates
    ]


def table_of(rates: Sequence[Rate]) -> RateTable:
    """Return a table of some rates."""
    table = RateTable()
    for rate in rates:
        table.add(rate)
    return table


def commands_of(org: DemoOrg, marker: Marker, wanted: Figures) -> list[SignUp | Credit | CreateKey]:
    """Return the commands that sign an org up with its credits and keys, always under the same ids."""
    start = f"demo-{marker.run}-{org.org}"
    commands: list[SignUp | Credit | CreateKey] = [SignUp(f"{start}-signup", org.org, org.name, org.email)]
    for number, credit in enumerate(wanted.credits[org.org]):
        commands.append(Credit(f"{start}-credit-{number}", org.org, credit.amount_nano, credit.reason))
    for key in org.keys:
        secret = marker.api_keys[key.key_id]
        commands.append(
            CreateKey(
                id=f"{start}-{key.key_id}",
                org=org.org,
                key_id=key.key_id,
                name=key.name,
                prefix=secret[:PREFIX_CHARS],
                hash=hash_key(secret),
                tier=key.tier,
                budget_nano=wanted.budgets_nano.get(key.key_id),
            )
        )
    return commands


async def _open(settings: Settings, marker: Marker, wanted: Figures, say: Say) -> None:
    client = CommandClient(settings.kafka, settings.command_keys)
    await client.start()
    try:
        rates = catalog(marker.now_ms)
        published, end = await publish_rates(
            settings.kafka, settings.deployment, lambda known, now_ms: plan(known, rates, now_ms)
        )
        await client.barrier(end, COMMAND_LIMIT_S)
        say(f"Catalog: {len(rates)} rates, {len(published)} of them new.")
        for org in ORGS:
            for command in commands_of(org, marker, wanted):
                opening: AccountCommand[Any] = command
                answer = await client.send(opening, COMMAND_LIMIT_S)
                if isinstance(answer, CommandRefusal):
                    raise SeedingError(f"{org.org}: {answer.code}: {answer.message}")
        say(f"Orgs: {', '.join(org.name for org in ORGS)}, with keys and credits.")
    finally:
        await client.stop()


async def _publish(kafka: KafkaConnection, batches: Sequence[TrafficBatch], say: Say) -> None:
    partitions = await partition_count(kafka)
    oldest_ms = _now_ms() - KEPT_DAYS * ist.DAY_MS
    producer = clients.producer(kafka, linger_ms=5)
    await producer.start()
    total, sent = sum(len(batch.events) for batch in batches), 0
    try:
        for number, batch in enumerate(batches, 1):
            fresh = [e for e in batch.events if (_timestamps.ms(e["time"]) or 0) >= oldest_ms]
            if fresh:
                # One after the other: the numbers of a partition must rise.
                await producer.send_and_wait(
                    topics.REQUESTS,
                    _encode(fresh),
                    key=batch.org.encode(),
                    partition=partition_of(batch.org, partitions),
                )
            sent += len(batch.events)
            if number % _SAY_EVERY == 0 or sent == total:
                say(f"History: {sent:,} of {total:,} requests of the last {DAYS} days, as {SOURCE}.")
    finally:
        await producer.stop()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

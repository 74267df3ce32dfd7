"""Prove that the books agree: state, journal, rows and roll-ups, to the nano-rupee.

Owns: reading each of them as of one journal position a partition, while traffic goes on.
Called by: the operator's endpoint of the server, and `cli/verify.py`. Next: `operations/audit.py`.

1. The state topic, read to its end, is the worker's state at one journal position.
2. The journal below that position is folded again and compared with it, each cost with its rate.
3. When the sink has come that far, the rows below it are compared with the journal.
4. Each roll-up group is compared with the rows up to the last id it counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.accounts.model import Account
from pipeline.catalog.rates import Rate
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import query
from pipeline.connection import KafkaConnection
from pipeline.journal import PARTITIONS_MAX, JournalRecord, public_id, read_headers
from pipeline.kafka.bounded import read_to_end
from pipeline.kafka.catalog import read_rates
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.operations.audit import Books, Difference, compare_accounts, compare_groups, compare_payments
from pipeline.posting.state import PartitionState
from pipeline.settings import Settings

SINK_LIMIT_S = 60.0
ROLL_UP_TRIES = 4
"""A roll-up may be a moment behind its rows; a difference counts when it does not go away."""
SCAN = {"max_execution_time": 600}

Rates = dict[tuple[str, str, int], Rate]
CountRow = tuple[int, int, int, int]
GroupRow = tuple[str, str, str, str, str, bool, str, int, int, int, int, int, int, int]


@dataclass
class Report:
    """What was compared, and every difference found."""

    orgs: int = 0
    requests: int = 0
    ledger_entries: int = 0
    positions: dict[int, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


async def verify(settings: Settings, engine: Engine) -> Report:
    """Compare everything and return the report. Raises what Kafka or the engine raises."""
    report = Report()
    partitions = await partition_count(settings.kafka)
    rates = {(rate.model, rate.provider, rate.from_ms): rate for rate in await read_rates(settings.kafka)}
    for partition in range(partitions):
        await _verify_partition(settings.kafka, engine, partition, partitions, rates, report)
    below = [0] * PARTITIONS_MAX
    for partition, position in report.positions.items():
        below[partition] = public_id(partition, position)
    for name in ("usage_day", "model_day"):
        report.differences += await _verify_roll_up(engine, name, below[:partitions])
    return report


async def _verify_partition(
    kafka: KafkaConnection, engine: Engine, partition: int, partitions: int, rates: Rates, report: Report
) -> None:
    records = await read_compacted(kafka, TopicPartition(topics.STATE, partition))
    state = PartitionState.restored(partition, partitions, records)
    stored = {org: state.account(org) for org in state.orgs()}
    books = await _fold(kafka, Books(partition, rates=rates), state.meta.position, stored)
    report.positions[partition] = state.meta.position
    report.orgs += len(books.accounts.keys() | stored.keys())
    report.requests += books.request_rows
    report.ledger_entries += books.ledger_rows
    report.differences += books.differences
    report.differences += compare_accounts(books, stored)
    report.differences += compare_payments(books, state.payments())
    report.differences += await _compare_rows(engine, books, state.meta.position)


async def _fold(kafka: KafkaConnection, books: Books, position: int, stored: dict[str, Account]) -> Books:
    async for record in _journal(kafka, books.partition, position):
        books.fold(record, stored)
    if books.next_position != position:
        books.differences.append(
            Difference(f"journal/{books.partition}", "end", str(position), str(books.next_position))
        )
    return books


async def _journal(kafka: KafkaConnection, partition: int, below: int) -> AsyncIterator[JournalRecord]:
    """Yield a partition's journal records from the beginning up to before a position."""
    async for records in read_to_end(kafka, TopicPartition(topics.JOURNAL, partition)):
        for record in records:
            row = read_headers(record.headers, record.value)
            if row.first >= below:
                return
            yield row


async def _compare_rows(engine: Engine, books: Books, position: int) -> Sequence[Difference]:
    """Compare the rows of a partition below a position with the journal, once the sink is there."""
    parameters = {"partition": books.partition, "below": public_id(books.partition, position)}
    expected = (books.request_rows, books.request_rows, books.ledger_rows, books.ledger_nano)
    deadline = time.monotonic() + SINK_LIMIT_S
    while True:
        found = (await _ask(engine, "verify_counts", parameters, CountRow))[0]
        if found == expected:
            break
        if found > expected or time.monotonic() > deadline:
            place = f"rows/{books.partition} (requests, distinct ids, ledger entries, ledger nano)"
            return [Difference(place, "all", str(expected), str(found))]
        await asyncio.sleep(0.5)
    rows = await _ask(engine, "verify_rows", parameters, GroupRow)
    return list(compare_groups("rows", books.groups, {row[:7]: row[7:] for row in rows}))


async def _verify_roll_up(engine: Engine, name: str, below: list[int]) -> Sequence[Difference]:
    """Compare a roll-up with the rows; a difference has to be seen again and again to count."""
    lasting: set[tuple[str, str, str]] | None = None
    for _ in range(ROLL_UP_TRIES):
        rows = await _ask(engine, f"verify_{name}", {"below": below}, tuple[str, str, str])
        lasting = set(rows) if lasting is None else lasting & set(rows)
        if not lasting:
            return []
        await asyncio.sleep(1)
    return [Difference(name, of, expected, found) for of, expected, found in sorted(lasting or ())]


async def _ask(engine: Engine, name: str, parameters: Mapping[str, object], row: Any) -> list[Any]:
    """Run a query that may take its time, in a thread."""
    bound = query(name).of_platform(**parameters)
    return await asyncio.to_thread(engine.query, bound.sql, bound.parameters, row=row, settings=SCAN)

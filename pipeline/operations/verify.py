"""Prove that the books agree: state, journal, rows and roll-ups, to the nano-rupee.

Owns: reading each of them as of one journal position a partition, while traffic goes on.
Called by: `cli/verify.py`, in a process of its own. Next: `operations/audit.py`, `operations/checkpoints.py`.

1. The state topic, read to its end, is the worker's state at one journal position.
2. The journal is folded from the last run's checkpoint, or from its beginning, up to that position: each cost is
   computed again by its rate, and balances, budgets and payments are compared with the state.
3. The rows that were folded are compared with those in ClickHouse, slice by slice.
4. Each group of a roll-up that has rows since the checkpoint is compared with all its rows up to the last id it counted.
5. The rows and all roll-ups of every day there is are compared with the sums that the journal has for it. So what was
   compared in detail by an earlier run and is gone, or doubled, since shows too (`operations/lasting.py`).
6. What the notary has signed since the last run is compared with journal and rows, org by org and day by day: a changed
   row shows whatever it adds up to, and is named.

Where all of a partition agrees, its checkpoint is kept. Memory is bounded by one partition's accounts and a slice.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from aiokafka import TopicPartition

from pipeline import ist, topics
from pipeline.accounts.model import Account
from pipeline.clickhouse.adding import put_together
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.fill import POSTED_DAY
from pipeline.clickhouse.queries import query
from pipeline.clickhouse.shards import Database, asked_of
from pipeline.connection import KafkaConnection
from pipeline.journal import public_id, read_headers
from pipeline.kafka.bounded import read_until
from pipeline.kafka.catalog import read_rates
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.topic_ids import topic_ids
from pipeline.operations.audit import (
    DIFFERENCES_MAX,
    Books,
    Difference,
    Group,
    Rates,
    Slice,
    compare_accounts,
    compare_groups,
    compare_payments,
)
from pipeline.operations.checkpoints import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    of_another_journal,
)
from pipeline.operations.lasting import lasting_differences
from pipeline.operations.signed_days import SignedDays
from pipeline.operations.sink_progress import SinkProgress
from pipeline.posting.state import PartitionState
from pipeline.settings import VerifySettings

SCAN = {"max_execution_time": 600}
EVER = "1970-01-01"

Ask = Callable[[str, Mapping[str, object]], Awaitable[bytes]]
"""Runs a query of `sql/queries/` by its name; returns the answer's rows, a JSON array a line."""
CountRow = tuple[int, int, int, int]
GroupRow = tuple[str, str, str, str, str, bool, str, int, int, int, int, int, int, int]


@dataclass
class Report:
    """What was compared, and every difference found.

    `orgs`, `requests` and `ledger_entries` count everything up to `positions`, the journal's next position by
    partition. `signed_through` is the last IST date that the notary signed. `rows_read` were read by this run, those below `since` by an earlier one. Requests of days before
    `rows_from`, if there is such a day, were dropped from ClickHouse and are compared as sums by day alone. `notes`
    are for people. Of very many differences the first are told and the others counted.
    """

    orgs: int = 0
    requests: int = 0
    ledger_entries: int = 0
    rows_read: int = 0
    positions: dict[int, int] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)
    rows_from: str | None = None
    signed_through: str | None = None
    notes: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    more_differences: int = 0

    def note(self, differences: Iterable[Difference]) -> bool:
        """Add differences; return whether there were any."""
        found = False
        for each in differences:
            found = True
            if len(self.differences) < DIFFERENCES_MAX:
                self.differences.append(each)
            else:
                self.more_differences += 1
        return found


def asking(database: Database) -> Ask:
    """Return what asks the engine of this process, or all of them."""

    async def ask(name: str, parameters: Mapping[str, object]) -> bytes:
        bound = query(name).of_platform(**parameters)

        def answer(engine: Engine) -> bytes:
            # A replica that is behind would lack rows.
            engine.catch_up()
            return engine.query_bytes(bound.sql, bound.parameters, output="JSONCompactEachRow", settings=SCAN)

        answers = (asyncio.to_thread(answer, engine) for engine in asked_of(database, parameters))
        return put_together(name, await asyncio.gather(*answers))

    return ask


async def verify(settings: VerifySettings, ask: Ask, *, full: bool = False) -> Report:
    """Compare everything and return the report; `full`: from the journal's beginning.

    Raises what Kafka and `ask` raise, and JournalFormatError and NewerFormatError.
    """
    kafka = settings.kafka
    partitions = await partition_count(kafka)
    rates = {(rate.model, rate.provider, rate.from_ms): rate for rate in await read_rates(kafka)}
    topic_id = (await topic_ids(kafka, [topics.JOURNAL])).get(topics.JOURNAL)
    checkpoints = Checkpoints(kafka, settings.deployment)
    run = _Run(kafka, ask, checkpoints, rates, topic_id, settings.events_kept_from, full=full)
    try:
        for partition in range(partitions):
            await run.partition(partition, partitions)
        await run.roll_ups(partitions)
        await run.signed_days()
        await run.ended()
    finally:
        await checkpoints.close()
    return run.report


class _Accounts(Mapping[str, Account]):
    """The accounts of a partition's state, each decoded when it is asked for."""

    def __init__(self, state: PartitionState) -> None:
        self._state, self._orgs = state, state.orgs()

    def __getitem__(self, org: str) -> Account:
        if org not in self._orgs:
            raise KeyError(org)
        return self._state.account(org)

    def __iter__(self) -> Iterator[str]:
        return iter(self._orgs)

    def __len__(self) -> int:
        return len(self._orgs)


class _Run:
    """One run of the command."""

    def __init__(
        self,
        kafka: KafkaConnection,
        ask: Ask,
        checkpoints: Checkpoints,
        rates: Rates,
        topic_id: str | None,
        kept_from: str | None,
        *,
        full: bool,
    ) -> None:
        self._kafka, self._ask, self._checkpoints = kafka, ask, checkpoints
        self._rates, self._topic_id, self._full = rates, topic_id, full
        self._from_day = f"{kept_from}-01" if kept_from else EVER
        self._sink = SinkProgress(kafka)
        self._days: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        """By IST day: requests, errors, tokens and nano-rupees of the whole journal."""
        self._keeps = True
        self._filled: tuple[str, ...] = ()
        self.report = Report(rows_from=self._from_day if kept_from else None)

    async def partition(self, partition: int, partitions: int) -> None:
        """Compare a partition's state, journal and rows, and keep the checkpoint where they agree."""
        records = await read_compacted(self._kafka, TopicPartition(topics.STATE, partition))
        state = PartitionState.restored(partition, partitions, records)
        del records
        checkpoint = await self._checkpoint(partition, state.meta.position)
        going_on = checkpoint is not None and not self._full
        books = (
            checkpoint.books(self._rates) if checkpoint and going_on else Books(partition, rates=self._rates)
        )
        first = self.report.since[partition] = books.next_position
        differs, next_offset = await self._fold(books, state, checkpoint)
        report, stored = self.report, _Accounts(state)
        report.positions[partition] = state.meta.position
        report.orgs += len(books.orgs() | stored.keys())
        report.requests += books.request_rows
        report.ledger_entries += books.ledger_rows
        report.rows_read += books.next_position - first
        report.more_differences += books.more_differences
        differs |= report.note(books.differences)
        differs |= report.note(compare_accounts(books, stored))
        differs |= report.note(compare_payments(books, state.payments()))
        for day, sums in books.days.items():
            for i, value in enumerate((sums[0], sums[1], sums[2] + sums[4] + sums[5], sums[6])):
                self._days[day][i] += value
        if not differs and not (going_on and books.next_position == first):
            await self._keep(lambda: self._checkpoints.keep(books, next_offset, self._topic_id))

    async def _checkpoint(self, partition: int, position: int) -> Checkpoint | None:
        """Return the checkpoint that fits a journal up to a position, None where there is none."""
        try:
            checkpoint = await self._checkpoints.read(partition)
        except CheckpointError as error:
            why: str | None = str(error)
        else:
            if checkpoint is None:
                return None
            why = of_another_journal(checkpoint.head, position, self._topic_id)
            if why is None:
                return checkpoint
        self.report.notes.append(f"partition {partition} is read from the beginning, its checkpoint: {why}")
        return None

    async def _fold(
        self, books: Books, state: PartitionState, checkpoint: Checkpoint | None
    ) -> tuple[bool, int]:
        """Fold the journal up to the state's position, comparing the rows; whether they differ, and where it ended."""
        differs, position, stored = False, state.meta.position, _Accounts(state)
        going_on = checkpoint is not None and books.next_position == checkpoint.head.position
        next_offset = checkpoint.head.next_offset if checkpoint and going_on else 0
        where = TopicPartition(topics.JOURNAL, books.partition)
        # The state may be seen before the journal's part of the same transaction.
        reached = partial(_has_reached, books, position)
        async for records in read_until(self._kafka, where, reached, start=next_offset):
            for record in records:
                row = read_headers(record.headers, record.value)
                if row.first >= position:
                    break
                books.fold(row, stored)
                next_offset = record.offset + 1
                if checkpoint and not going_on and books.next_position == checkpoint.head.position:
                    differs |= self.report.note(_changed_since(checkpoint, books))
                if books.part.is_full:
                    differs |= await self._compare_rows(books.partition, books.take_slice())
            if books.next_position >= position:
                break
        if books.next_position != position:
            place = f"journal/{books.partition}"
            differs |= self.report.note([Difference(place, "end", str(position), str(books.next_position))])
        differs |= await self._compare_rows(books.partition, books.take_slice())
        return differs, next_offset

    async def _compare_rows(self, partition: int, part: Slice) -> bool:
        """Compare the rows of a slice with the journal; whether they differ. At once, unless the sink is on its way."""
        if part.first == part.below:
            return False
        groups = {group: sums for group, sums in part.groups.items() if group[1] >= self._from_day}
        requests = sum(sums[0] for sums in groups.values())
        expected = (requests, requests, part.ledger_rows, part.ledger_nano)
        place = {
            "partition": partition,
            "from_id": public_id(partition, part.first),
            "below": public_id(partition, part.below),
            "from_day": self._from_day,
        }
        while (found := (await self._rows("verify_counts", place, CountRow))[0]) != expected:
            lacking = expected[0] + expected[2] - found[0] - found[2]
            if lacking <= 0 or not await self._sink.may_write(partition, part.below - 1, lacking):
                name = f"rows/{partition} (requests, distinct ids, ledger entries, ledger nano)"
                of = f"positions {part.first} to {part.below - 1}"
                self.report.note([Difference(name, of, str(expected), str(found))])
                break
        rows = await self._rows("verify_rows", place, GroupRow)
        in_table: dict[Group, tuple[int, ...]] = {row[:7]: row[7:] for row in rows}
        if found != expected:
            self.report.note(_absent_months(partition, groups, in_table))
            return True
        return self.report.note(compare_groups("rows", groups, in_table))

    async def roll_ups(self, partitions: int) -> None:
        """Compare the roll-ups with the rows, and rows and roll-ups of each day with the journal."""
        since = [0] * partitions if self._full else await self._checkpoints.roll_ups(partitions)
        below = [public_id(partition, self.report.positions[partition]) for partition in range(partitions)]
        since = [min(one, other) for one, other in zip(since, below, strict=True)]
        ids: dict[str, object] = {"since": since, "low": min(since), "from_day": self._from_day}
        self._filled = await self._are_filled(partitions)
        differs = not self._filled
        for first, last in await self._rows("verify_months", ids, tuple[str, str]):
            months: dict[str, object] = {**ids, "below": below, "from_day": first, "to_day": last}
            for name in ("usage_day", "model_day", *self._filled):
                differs |= self.report.note(await lasting_differences(partial(self._groups, name, months)))
        differs |= self.report.note(await lasting_differences(partial(self._days_apart, below)))
        if not differs:
            await self._keep(lambda: self._checkpoints.keep_roll_ups(below))

    async def signed_days(self) -> None:
        """Compare each day that was signed since the last run, or with `full` each there is, with journal and rows."""
        days = SignedDays(self._kafka, self._ask, self._rates, rows_from=self._from_day)
        there = await days.read()
        self.report.signed_through = ist.date_of(there[-1]).isoformat() if there else None
        since = 0 if self._full else await self._checkpoints.signed_through()
        agreed = None
        for day in (day for day in there if day > since):
            try:
                differs = self.report.note(await days.compare(day))
            except KeyError as error:
                self.report.notes.append(f"the signed day {ist.date_of(day)} cannot be compared: {error}")
                break
            agreed = day if not differs and agreed in (None, day - 1) else agreed
        if agreed is not None:
            await self._keep(lambda: self._checkpoints.keep_signed_through(agreed))

    async def _are_filled(self, partitions: int) -> tuple[str, ...]:
        """Return the roll-up by day of posting where it has the rows from before it was made; say so where it has not."""
        found = {
            partition
            for (partition,) in await self._rows("verify_filled", {"roll_up": POSTED_DAY}, tuple[int])
        }
        lacking = set(range(partitions)) - found
        if lacking:
            self.report.notes.append(
                f"{POSTED_DAY} is not compared: sinks have to fill it, of {sorted(lacking)}"
            )
        return () if lacking else (POSTED_DAY,)

    async def ended(self) -> None:
        """Note what the run came to, where Prometheus learns of it."""
        differences = len(self.report.differences) + self.report.more_differences
        ended_ms = time.time_ns() // 1_000_000
        await self._keep(lambda: self._checkpoints.keep_run(ended_ms, differences, full=self._full))

    async def _groups(self, name: str, parameters: Mapping[str, object]) -> set[Difference]:
        rows = await self._rows(f"verify_{name}", parameters, tuple[str, str, str])
        return {Difference(name, of, expected, found) for of, expected, found in rows}

    async def _days_apart(self, below: list[int]) -> set[Difference]:
        """Return in what rows and roll-ups differ from the journal, day by day."""
        parameters = {"below": below, "low": min(below), "from_day": self._from_day}
        found: defaultdict[str, dict[tuple[str], tuple[int, ...]]] = defaultdict(dict)
        for table, day, *sums in await self._rows(
            "verify_days", parameters, tuple[str, str, int, int, int, int]
        ):
            # Of days whose rows were dropped before the roll-up was made it cannot know.
            if table != POSTED_DAY or day >= self._from_day:
                found[table][day,] = tuple(sums)
        due: defaultdict[str, dict[tuple[str], tuple[int, ...]]] = defaultdict(dict)
        for number, (requests, errors, tokens, cost_nano) in self._days.items():
            day = ist.date_of(number).isoformat()
            if day >= self._from_day:
                due["events"][day,] = (requests, 0, 0, cost_nano)
                due[POSTED_DAY][day,] = (requests, 0, 0, cost_nano)
            due["usage_day"][day,] = (requests, errors, tokens, cost_nano)
            due["model_day"][day,] = (requests, 0, tokens, 0)
        return {
            difference
            for table in ("events", "usage_day", "model_day", *self._filled)
            for difference in compare_groups(
                f"{table} by day, as the journal has it", due[table], found[table]
            )
        }

    async def _keep(self, keep: Callable[[], Awaitable[None]]) -> None:
        """Keep a checkpoint; where that fails once, only say so: it was not verified any less."""
        try:
            if self._keeps:
                await keep()
        except CheckpointError as error:
            self._keeps = False
            self.report.notes.append(f"the next run begins where this one began: {error}")

    async def _rows(self, name: str, parameters: Mapping[str, object], row: Any) -> list[Any]:
        rows: list[Any] = msgspec.json.Decoder(row).decode_lines(await self._ask(name, parameters))
        return rows


def _has_reached(books: Books, position: int) -> bool:
    return books.next_position >= position


def _changed_since(checkpoint: Checkpoint, books: Books) -> Iterator[Difference]:
    """Yield what the checkpoint of an earlier run has otherwise than the journal read again up to it."""
    what = checkpoint.differs_from(books)
    if what is not None:
        yield Difference(
            f"checkpoint/{books.partition}",
            f"up to position {books.next_position - 1}",
            f"{what} as it was verified",
            "another one: the journal was changed below what was verified, or the checkpoint by hand",
        )


def _absent_months(
    partition: int, expected: Mapping[Group, list[int]], found: Mapping[Group, tuple[int, ...]]
) -> Iterator[Difference]:
    """Yield each month of which all rows of a slice are missing: its partition of `events` may have been dropped."""
    months: dict[str, int] = defaultdict(int)
    for group, sums in expected.items():
        months[group[1][:7]] += sums[0]
    there = {group[1][:7] for group in found}
    for month, requests in sorted(months.items()):
        if month not in there:
            yield Difference(
                f"rows/{partition}",
                f"month {month}",
                f"{requests} requests",
                "none: where older months were dropped, set METERING_EVENTS_KEPT_FROM",
            )

"""A sink's ranges on a real broker and engine: finished by the next owner, and never sent again by a stale one.

One broker serves all tests here; each has a partition of its own, with a journal and a state of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiokafka.errors import ProducerFenced
from msgspec.structs import replace

from pipeline import topics
from pipeline.clickhouse import fill, lost
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.migrate import load, migrate
from pipeline.clickhouse.queries import query
from pipeline.clickhouse.sql_files import sql_files
from pipeline.connection import KafkaConnection
from pipeline.driving import drive
from pipeline.journal import (
    JSON_ARRAYS,
    LEDGER,
    NATIVE,
    REQUESTS,
    JournalRecord,
    RequestRow,
    decode_rows,
    encode_rows,
    public_id,
)
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from pipeline.sink import protocol, ranges
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.steps import NotConfirmedError
from pipeline.steps import Output, TopicPlace
from tests.support import parts
from tests.support.journal_rows import in_format, insert, ledger_row, of_release_0_1_0, random_requests

REQUEST_ROWS = 3
TABLES = ("events", "usage_day", "model_day", "posted_day", "ledger")
PARTITIONS = 40
"""One for each test here, and some more."""
POSTED_DAY_MADE = 7
"""Which migration makes it."""
_unused = itertools.count()


@dataclass(frozen=True)
class Journal:
    """A partition of the journal that holds requests and a ledger row, at positions 1 to 4."""

    servers: str
    partition: int
    format: int = NATIVE

    def records(self) -> list[JournalRecord]:
        """Return its records."""
        made = map(of_release_0_1_0, random_requests(7, REQUEST_ROWS + 1, orgs=("org_a",))[1:])
        requests = [replace(row, id=public_id(self.partition, n)) for n, row in enumerate(made, start=1)]
        row = ledger_row(public_id(self.partition, REQUEST_ROWS + 1), "org_a", 5, 5)
        records = [*encode_rows(REQUESTS, requests), *encode_rows(LEDGER, [row])]
        return [in_format(self.format, record) for record in records]

    def range(self, age_ms: int) -> tuple[ranges.Intent, list[tuple[int, JournalRecord]]]:
        """Return all of it as a range that was cut so long ago."""
        records = list(enumerate(self.records()))
        return ranges.cut(records, int(time.time() * 1000) - age_ms), records

    def owner(self, engine: Engine) -> SinkPartition:
        """Return one more that may own it."""
        budget = ByteBudget(1_000_000)
        budget.join(self.partition)
        kafka = KafkaConnection(self.servers)
        return SinkPartition(kafka, "metering", self.partition, engine, budget, lambda: 0.0)

    async def fencing_owner(self, engine: Engine) -> SinkPartition:
        """Return an owner that has fenced those before it, and has done no more yet."""
        sink = self.owner(engine)
        await sink._log.start()
        return sink


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """The broker of these tests, with all topics."""
    with parts.own_broker() as broker:
        asyncio.run(ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS)))
        yield broker


@pytest_asyncio.fixture
async def journal(broker: Broker) -> Journal:
    """A partition that no other test has used, with its records written."""
    return await _written(Journal(broker.servers, next(_unused)))


@pytest_asyncio.fixture
async def old_journal(broker: Broker) -> Journal:
    """One that release 0.1.0 has written."""
    return await _written(Journal(broker.servers, next(_unused), JSON_ARRAYS))


async def _written(journal: Journal) -> Journal:
    writer = FencedLog(KafkaConnection(journal.servers), f"metering-{journal.partition}", role="worker")
    await writer.start()
    outputs = [Output(None, record.value, record.headers()) for record in journal.records()]
    await writer.commit({TopicPlace(topics.JOURNAL, journal.partition): outputs})
    await writer.close()
    return journal


async def _record(owner: SinkPartition, intent: ranges.Intent) -> None:
    await drive(owner._writer.record(intent), owner._take)


def _stored(engine: Engine) -> list[int]:
    return [
        row[0]
        for table in ("events", "ledger")
        for row in engine.query(f"SELECT count() FROM {table}", row=tuple[int])
    ]


@pytest.mark.parametrize("age_ms", [0, 30 * 86_400_000])
@pytest.mark.parametrize("done", [(), (REQUESTS,), (REQUESTS, LEDGER)])
async def test_the_next_owner_writes_what_is_missing_of_a_range(
    journal: Journal, engine: Engine, age_ms: int, done: tuple[str, ...]
) -> None:
    intent, records = journal.range(age_ms)
    first = await journal.fencing_owner(engine)
    await _record(first, intent)
    for part in intent.parts:
        if part.kind in done:
            await first._insert(ranges.insert_of("metering", journal.partition, part, records))
    await first.close()
    second = journal.owner(engine)
    assert await second.open() == intent.next_offset
    assert _stored(engine) == [REQUEST_ROWS, 1]
    await second.close()


async def test_an_owner_stopped_for_long_sends_nothing_that_is_there(
    journal: Journal, engine: Engine
) -> None:
    """By then its tokens are forgotten, so the engine would take the rows again."""
    intent, records = journal.range(30 * 86_400_000)
    stale = await journal.fencing_owner(engine)
    await _record(stale, intent)
    owner = journal.owner(engine)
    await owner.open()
    for table in TABLES:
        engine.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 0")
    await drive(stale._writer.insert(intent, records), stale._take)
    assert _stored(engine) == [REQUEST_ROWS, 1]
    await owner.close()
    await stale.close()


@pytest.mark.parametrize("lost", [(), ("usage_day",), ("posted_day",), TABLES[:-1], ("ledger",)])
async def test_what_an_engine_has_that_was_just_started_is_not_sent_to_it_again(
    journal: Journal, engine: Engine, lost: tuple[str, ...]
) -> None:
    """A power cut takes the tokens, which the engine does not sync, and maybe some of what it had not confirmed."""
    intent, records = journal.range(age_ms=0)
    first = await journal.fencing_owner(engine)
    await _record(first, intent)
    for part in intent.parts:
        await first._insert(ranges.insert_of("metering", journal.partition, part, records))
    await first.close()
    before = _contents(engine)
    for table in TABLES:
        engine.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 0")
    for table in lost:
        engine.command(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    started = Engine(engine._pool, engine.database)
    second = journal.owner(started)
    assert not started.may_be_sent(journal.partition)
    assert await second.open() == intent.next_offset
    assert _contents(engine) == before
    assert not started.may_be_sent(journal.partition), "what was lacking was added without its token"
    await second.close()


async def test_an_owner_stopped_for_long_is_fenced_where_nothing_is_there(
    journal: Journal, engine: Engine
) -> None:
    intent, records = journal.range(30 * 86_400_000)
    stale = await journal.fencing_owner(engine)
    owner = await journal.fencing_owner(engine)
    with pytest.raises(ProducerFenced):
        await drive(stale._writer.insert(intent, records), stale._take)
    assert _stored(engine) == [0, 0]
    await owner.close()
    await stale.close()


@pytest.mark.parametrize("lost", [*TABLES, "all"])
async def test_what_a_killed_engine_has_lost_of_a_range_it_knows_is_put_back(
    journal: Journal, engine: Engine, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a block's token and the block, an engine drops the block for ever after."""
    monkeypatch.setattr(protocol, "SETTLE_S", 0.1)
    intent, records = journal.range(age_ms=3_600_000)
    first = await journal.fencing_owner(engine)
    await _record(first, intent)
    for part in intent.parts:
        await first._insert(ranges.insert_of("metering", journal.partition, part, records))
    await first.close()
    before = _contents(engine)
    for table in TABLES if lost == "all" else (lost,):
        engine.command(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    assert _contents(engine) != before
    second = journal.owner(engine)
    assert await second.open() == intent.next_offset
    assert _contents(engine) == before
    assert engine.query("SELECT name FROM system.tables WHERE name LIKE 'again%'", row=tuple[str]) == []
    await second.close()


@pytest.mark.parametrize(
    "refusing", [("usage_day",), ("posted_day",), ("usage_day", "model_day", "posted_day")]
)
async def test_roll_ups_that_refused_until_the_tokens_were_old_get_what_they_lack(
    journal: Journal, engine: Engine, refusing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are in `events` by then, and the roll-ups short for good where nobody looks at them."""
    intent, records = journal.range(age_ms=30 * 86_400_000)
    first = await journal.fencing_owner(engine)
    await _record(first, intent)
    for table in refusing:
        engine.command(f"ALTER TABLE {table} ADD CONSTRAINT refusing CHECK requests = 0")
    requests = ranges.insert_of("metering", journal.partition, intent.parts[0], records)
    with pytest.raises(NotConfirmedError) as refused:
        await first._insert(requests)
    assert refused.value.is_refusal
    await first.close()
    assert _stored(engine) == [REQUEST_ROWS, 0]
    assert engine.query(f"SELECT sum(requests) FROM {refusing[0]}", row=tuple[int]) == [(0,)]
    for table in refusing:
        engine.command(f"ALTER TABLE {table} DROP CONSTRAINT refusing")
    monkeypatch.setattr(protocol, "SETTLE_S", 0.1)
    second = journal.owner(engine)
    assert await second.open() == intent.next_offset
    assert _stored(engine) == [REQUEST_ROWS, 1]
    bounds = [0] * journal.partition + [1 << 53]
    for check in ("verify_usage_day", "verify_model_day", "verify_posted_day"):
        bound = query(check).of_platform(
            below=bounds, since=[0] * len(bounds), low=0, from_day="1970-01-01", to_day="2100-01-01"
        )
        assert engine.query(bound.sql, bound.parameters, row=tuple[str, str, str]) == []
    assert engine.query("SELECT sum(requests) FROM usage_day", row=tuple[int]) == [(REQUEST_ROWS,)]
    assert not lost.roll_ups_lack(engine, requests)
    await second.close()


async def test_an_old_range_that_is_half_there_is_completed(
    journal: Journal, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent, records = journal.range(age_ms=30 * 86_400_000)
    first = await journal.fencing_owner(engine)
    await _record(first, intent)
    for part in intent.parts:
        await first._insert(ranges.insert_of("metering", journal.partition, part, records))
    await first.close()
    before = _contents(engine)
    lost_id = public_id(journal.partition, 2)
    engine.command(f"ALTER TABLE events DELETE WHERE id = {lost_id} SETTINGS mutations_sync = 2")
    monkeypatch.setattr(protocol, "SETTLE_S", 0.1)
    second = journal.owner(engine)
    assert await second.open() == intent.next_offset
    assert _contents(engine) == before
    await second.close()


async def test_a_range_of_an_older_release_is_finished_and_what_is_lost_of_it_put_back(
    old_journal: Journal, engine: Engine
) -> None:
    intent, _ = old_journal.range(age_ms=3_600_000)
    first = await old_journal.fencing_owner(engine)
    await _record(first, intent)
    await first.close()
    second = old_journal.owner(engine)
    assert await second.open() == intent.next_offset
    assert _stored(engine) == [REQUEST_ROWS, 1]
    # As if it had been sent at the first try: then it may have been lost for an hour.
    await _record(second, intent)
    await second.close()
    before = _contents(engine)
    for table in ("events", "usage_day", "ledger"):
        engine.command(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    third = old_journal.owner(engine)
    assert await third.open() == intent.next_offset
    assert _contents(engine) == before
    await third.close()


async def test_a_journal_that_an_older_release_began_is_written_to_its_end(
    journal: Journal, engine: Engine
) -> None:
    new = journal.records()
    records = [in_format(JSON_ARRAYS, new[0]), *new[1:]]
    owner = await journal.fencing_owner(engine)
    await drive(owner._writer.write(list(enumerate(records))), owner._take)
    assert _stored(engine) == [REQUEST_ROWS, 1]
    [request, *_] = engine.query("SELECT * FROM events ORDER BY id", row=RequestRow)
    assert request == decode_rows(new[0])[0]
    await owner.close()


@pytest.mark.parametrize("age_ms", [0, 30 * 86_400_000])
@pytest.mark.parametrize("is_server", [True, False])
async def test_a_roll_up_that_an_upgrade_made_gets_each_earlier_row_once(
    journal: Journal, empty_engine: Engine, age_ms: int, is_server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of the last range, which is sent again: only the view does not know its token."""
    monkeypatch.setattr(protocol, "SETTLE_S", 0.1)
    engine, known = empty_engine, load(sql_files("migrations"))
    migrate(engine, known[: POSTED_DAY_MADE - 1])
    made = random_requests(8, 40, orgs=("org_b", "org_c"))
    earlier = [replace(row, id=public_id(journal.partition + 1, n)) for n, row in enumerate(made, 1)]
    insert(engine, earlier)
    intent, records = journal.range(age_ms)
    for part in intent.parts:
        lost.insert(engine, ranges.insert_of("metering", journal.partition, part, records))
    first = await journal.fencing_owner(engine)
    await _record(first, intent)
    await first.close()
    migrate(engine)
    assert engine.query("SELECT count() FROM posted_day", row=tuple[int]) == [(0,)]
    for _ in range(2):
        if is_server:
            engine.note_sent(journal.partition)
        owner = journal.owner(engine)
        assert await owner.open() == intent.next_offset
        await owner.close()
        assert _posted(engine) == REQUEST_ROWS
    assert fill.fill(engine, journal.partition + 1, len(earlier))
    assert _posted(engine) == REQUEST_ROWS + len(earlier)
    assert fill.fill(engine, journal.partition + 1, len(earlier)) == 0
    bounds = [1 << 53] * (journal.partition + 2)
    bound = query("verify_posted_day").of_platform(
        below=bounds, since=[0] * len(bounds), low=0, from_day="1970-01-01", to_day="2100-01-01"
    )
    assert engine.query(bound.sql, bound.parameters, row=tuple[str, str, str]) == []


def _posted(engine: Engine) -> int:
    return engine.query("SELECT sum(requests) FROM posted_day", row=tuple[int])[0][0]


def _contents(engine: Engine) -> list[list[tuple[object, ...]]]:
    """Return all rows, and all that the roll-ups come to."""
    return [
        engine.query(sql, row=tuple[object, ...])
        for sql in (
            "SELECT * FROM events ORDER BY id",
            "SELECT * FROM ledger ORDER BY id",
            "SELECT * FROM usage_day FINAL ORDER BY ALL",
            "SELECT * FROM model_day FINAL ORDER BY ALL",
            "SELECT * FROM posted_day FINAL ORDER BY ALL",
        )
    ]

"""The notary on a real broker: each closed day is signed once, the same bytes whoever does it and wherever it was killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.connection import KafkaConnection
from pipeline.journal import LEDGER, REQUESTS, LedgerRow, RequestRow, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.catalog import read_rates
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.notary import kept
from pipeline.notary.checkpoint import NotaryKeyError, NotaryKeys, is_signed, line_hash, line_of
from pipeline.notary.checkpoint import signed as sign
from pipeline.notary.day import NotaryError
from pipeline.notary.kept import KeptCheckpoint
from pipeline.notary.notary import DAYS, NotaryOffice
from pipeline.operations.audit import Difference
from pipeline.operations.signed_days import SignedDays
from pipeline.operations.verify import asking
from pipeline.settings import Settings
from pipeline.steps import Output
from tests.support import parts
from tests.support.notary import KEYS, books, old_keys
from tests.support.notary_topics import say_posted, write_rates, write_rows

PARTITIONS = 2
POSITIONS = 37, 2
"""What the next row of each takes."""
OTHER_ORG = "org_of_partition_1"


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaConnection]:
    """A broker whose journal has three days of one partition, and a row of the second day in the other."""
    with parts.own_broker() as broker:
        asyncio.run(ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS)))
        asyncio.run(_post(broker.connection))
        yield broker.connection


MADE = books("2026-10-05", 3, 12)
SECOND_DAY_MS = ist.day_start_ms(MADE.days[1]) + 5
THEIRS = LedgerRow(public_id(1, 1), OTHER_ORG, SECOND_DAY_MS, "topup", 7, 7, "pay_9", "order_9", "", "")


async def _post(kafka: KafkaConnection) -> None:
    await write_rates(kafka)
    await write_rows(kafka, 0, MADE.rows)
    await write_rows(kafka, 1, [THEIRS])


@asynccontextmanager
async def office(kafka: KafkaConnection, keys: NotaryKeys = KEYS) -> AsyncIterator[NotaryOffice]:
    """A notary that has just taken over."""
    taking = NotaryOffice(Settings(kafka_url=f"kafka://{kafka.servers}", partitions=PARTITIONS), keys)
    await taking.open()
    try:
        yield taking
    finally:
        await taking.close()


async def signed(kafka: KafkaConnection) -> dict[int, KeptCheckpoint]:
    return kept.checkpoints_of(await read_compacted(kafka, TopicPartition(*DAYS)))


async def test_the_days_are_signed_one_after_the_other_by_whoever_is_the_notary(
    kafka: KafkaConnection,
) -> None:
    async with office(kafka) as first:
        # Both partitions have a row of a later day, so nothing more can be posted on the first.
        assert await first.turn()
        # On the second it can, in the second partition, for all that anybody has said yet.
        assert not await first.turn()
        await say_posted(kafka, MADE.days[1], POSITIONS)
        async with office(kafka) as second:
            with pytest.raises(ProducerFenced):
                await first.turn()
            assert await second.turn()
            assert not await second.turn()
    found = await signed(kafka)
    assert list(found) == MADE.days[:2]
    one, two = (found[day].checkpoint for day in MADE.days[:2])
    assert is_signed(one)
    assert is_signed(two)
    assert two.previous == line_hash(one)
    # The first day has rows of the first partition alone, so these are the bytes that the pure core makes of it.
    assert one.root == MADE.sign().kept[MADE.days[0]].checkpoint.root


async def test_verify_names_a_row_that_is_not_the_one_that_was_signed(
    kafka: KafkaConnection, engine: Engine
) -> None:
    rows = [*MADE.rows, THEIRS]
    for kind, table, of in ((REQUESTS, "events", RequestRow), (LEDGER, "ledger", LedgerRow)):
        some = [row for row in rows if isinstance(row, of)]
        blocks = b"".join(record.value for record in encode_rows(kind, some))
        engine.insert_blocks(table, blocks, len(some), table)
    assert [await _compared(kafka, engine, day) for day in MADE.days[:2]] == [[], []]
    changed = [next(row for row in MADE.rows[start:] if isinstance(row, RequestRow)) for start in (2, 14)]
    for row in changed:
        engine.command(
            f"ALTER TABLE events UPDATE status = 201 WHERE id = {row.id} SETTINGS mutations_sync = 2"
        )
    for row, day in zip(changed, MADE.days[:2], strict=True):
        [difference] = await _compared(kafka, engine, day)
        assert difference.place == "signed rows in ClickHouse"
        assert difference.of == f"{row.org} on {ist.date_of(day)}, row {row.id}"


async def _compared(kafka: KafkaConnection, engine: Engine, day: int) -> list[Difference]:
    rates = {(rate.model, rate.provider, rate.from_ms): rate for rate in await read_rates(kafka)}
    days = SignedDays(kafka, asking(engine), rates, rows_from="1970-01-01")
    assert day in await days.read()
    return await days.compare(day)


async def test_a_day_whose_index_is_lost_is_made_again_as_it_was_signed(kafka: KafkaConnection) -> None:
    """As on a second cluster, to which the checkpoints alone were copied; no key of then is needed."""
    before = await signed(kafka)
    await _forget(kafka)
    async with office(kafka, old_keys()) as again:
        assert await again.turn()
        assert await again.turn()
    assert await signed(kafka) == before
    assert len(kept.indexes_of(await read_compacted(kafka, TopicPartition(*DAYS)))) == 2


async def _forget(kafka: KafkaConnection, *more: Output) -> None:
    log = FencedLog(kafka, "forgetting")
    await log.start()
    gone = [Output(kept.index_key(day), None) for day in MADE.days]
    await log.commit({DAYS: [*gone, *more]})
    await log.close()


async def test_another_key_needs_the_word_of_the_one_before(kafka: KafkaConnection) -> None:
    await say_posted(kafka, MADE.days[2], POSITIONS)
    async with office(kafka, old_keys()) as strange:
        with pytest.raises(NotaryKeyError, match="METERING_NOTARY_KEY does not have"):
            await strange.turn()
    async with office(kafka) as mine:
        assert await mine.turn()
    assert list(await signed(kafka)) == MADE.days


async def test_a_journal_that_is_not_the_one_that_was_signed_is_refused(kafka: KafkaConnection) -> None:
    found = await signed(kafka)
    first = found[MADE.days[0]]
    wrong = KeptCheckpoint(bytes(32), first.checkpoint)
    await _forget(kafka, Output(kept.checkpoint_key(MADE.days[0]), kept.encode(wrong)))
    async with office(kafka) as strict:
        with pytest.raises(NotaryError, match="the journal up to 2026-10-05 is not the one that was signed"):
            await strict.turn()


async def test_a_journal_with_a_hole_stops_the_notary(kafka: KafkaConnection) -> None:
    late = ist.day_start_ms(MADE.days[2]) + ist.DAY_MS
    await _forget(kafka, *(Output(kept.checkpoint_key(day), None) for day in MADE.days))
    follows = LedgerRow(public_id(1, 2), OTHER_ORG, SECOND_DAY_MS, "topup", 7, 14, "", "", "", "")
    await write_rows(kafka, 1, [follows])
    hole = LedgerRow(public_id(1, 5), OTHER_ORG, late, "topup", 7, 14, "", "", "", "")
    await write_rows(kafka, 1, [hole])
    async with office(kafka) as strict:
        assert await strict.turn()
        # Its chunks were there already, as after a kill between them and the checkpoint: the same bytes again.
        first = (await signed(kafka))[MADE.days[0]].checkpoint
        root = bytes.fromhex(MADE.sign().kept[MADE.days[0]].checkpoint.root)
        assert line_of(first) == line_of(sign(KEYS, "metering/", MADE.days[0], root, None))
        with pytest.raises(NotaryError, match=r"partition 1 has \(1, 5\) where 3 is due"):
            await strict.turn()

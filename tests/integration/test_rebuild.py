"""Two histories stop the sink, and the rebuilds go to their right end, whatever step they were ended at: real broker and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import date

import pytest
import pytest_asyncio
from msgspec import structs

from pipeline import topics
from pipeline.clickhouse.client import Engine
from pipeline.connection import KafkaConnection
from pipeline.identity import MixedHistoriesError
from pipeline.journal import REQUESTS, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from pipeline.sink import ranges, rebuild
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.protocol import INTENT_KEY
from pipeline.sink.rebuild import Rebuild
from pipeline.steps import Output, TopicPlace
from tests.support import parts
from tests.support.journal_rows import random_requests
from tests.support.product.rebuilds import POINTS_OF

PARTITIONS = 2
ROWS = 30
"""Of each partition."""
LIMIT_S = 60


class EndedError(Exception):
    """Where a command was ended."""


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with a journal of both partitions."""
    with parts.own_broker() as broker:
        asyncio.run(ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS)))
        asyncio.run(_journal(broker.connection))
        yield broker


async def _journal(kafka: KafkaConnection) -> None:
    for partition in range(PARTITIONS):
        made = random_requests(partition, ROWS, orgs=("org_a", "org_b"))
        rows = [structs.replace(row, id=public_id(partition, n)) for n, row in enumerate(made, start=1)]
        writer = FencedLog(kafka, f"metering-{partition}", role="worker")
        await writer.start()
        place = TopicPlace(topics.JOURNAL, partition)
        for start in range(0, ROWS, 10):
            for record in encode_rows(REQUESTS, rows[start : start + 10]):
                await writer.commit({place: [Output(None, record.value, record.headers())]})
        await writer.close()


def _settings(broker: Broker, deployment: str = "metering") -> Settings:
    return Settings(kafka_url=broker.url, partitions=PARTITIONS, deployment=deployment)


def _owner(broker: Broker, engine: Engine, partition: int = 0, deployment: str = "metering") -> SinkPartition:
    budget = ByteBudget(1_000_000)
    budget.join(partition)
    return SinkPartition(broker.connection, deployment, partition, engine, budget, lambda: 0.0)


async def _open(owner: SinkPartition) -> int:
    try:
        return await owner.open()
    finally:
        await owner.close()


def _sums(engine: Engine) -> list[tuple[int, int]]:
    """Return requests and money by the rows, by their distinct ids, and by each roll-up."""
    asked = (
        "SELECT count(), sum(cost_nano) FROM events",
        "SELECT uniqExact(id), sum(cost_nano) FROM events",
        "SELECT sum(requests), sum(cost_nano) FROM usage_day",
        "SELECT sum(requests), (SELECT sum(cost_nano) FROM events) FROM model_day",
        "SELECT sum(requests), sum(cost_nano) FROM posted_day",
    )
    return [engine.query(sql, row=tuple[int, int])[0] for sql in asked]


def _is_whole(engine: Engine) -> bool:
    sums = _sums(engine)
    return sums[0][0] == ROWS * PARTITIONS and len(set(sums)) == 1


def _ends_at(point: str) -> Callable[[str], None]:
    """Return what ends a command at a step."""

    def reached(name: str) -> None:
        if name == point:
            raise EndedError(point)

    return reached


async def _ended_at(broker: Broker, engine: Engine, work: str, point: str) -> Rebuild:
    """Run a command that ends at a step, and return the one that is run after it."""
    ended = Rebuild(_settings(broker), engine, work, _ends_at(point))
    with pytest.raises(EndedError):
        await (ended.clickhouse() if work == rebuild.CLICKHOUSE else ended.roll_ups(None, None))
    return Rebuild(_settings(broker), engine, work)


@pytest_asyncio.fixture
async def whole(broker: Broker, engine: Engine) -> Engine:
    """A database that was made from the journal."""
    async with asyncio.timeout(LIMIT_S):
        await Rebuild(_settings(broker), engine, rebuild.CLICKHOUSE).clickhouse()
    assert _is_whole(engine)
    return engine


async def test_rebuilds_of_the_database_that_were_ended_anywhere_are_run_again_to_the_right_end(
    broker: Broker, whole: Engine
) -> None:
    # Each goes a step further than the one before, on what that one left.
    for point in POINTS_OF[rebuild.CLICKHOUSE]:
        async with asyncio.timeout(LIMIT_S):
            again = await _ended_at(broker, whole, rebuild.CLICKHOUSE, point)
    async with asyncio.timeout(LIMIT_S):
        report = await again.clickhouse()
    assert (report.partitions, report.rows) == (PARTITIONS, ROWS * PARTITIONS)
    assert _is_whole(whole), _sums(whole)


async def test_rebuilds_of_the_roll_ups_that_were_ended_anywhere_are_run_again_to_the_right_end(
    broker: Broker, whole: Engine
) -> None:
    # Two lack sums, the other has them twice.
    whole.command("TRUNCATE TABLE usage_day")
    whole.command("TRUNCATE TABLE posted_day")
    whole.command("INSERT INTO model_day SELECT * FROM model_day")
    for point in POINTS_OF[rebuild.ROLL_UPS]:
        async with asyncio.timeout(LIMIT_S):
            again = await _ended_at(broker, whole, rebuild.ROLL_UPS, point)
    async with asyncio.timeout(LIMIT_S):
        await again.roll_ups(None, None)
    assert _is_whole(whole), _sums(whole)
    # What is summed by now is not sent again by the next owner.
    for partition in range(PARTITIONS):
        await _open(_owner(broker, whole, partition))
    assert _is_whole(whole), _sums(whole)


async def test_a_restored_backup_is_kept_and_gone_on_from_wherever_that_was_ended(
    broker: Broker, whole: Engine
) -> None:
    """Of one partition it lacks a row in the midst, of the other all after the twelfth, and the tables are not of one moment."""
    await _as_restored(whole)
    for point in ("rebuild.held", "rebuild.emptied", "rebuild.replaced", "rebuild.releasing"):
        ended = Rebuild(_settings(broker), whole, rebuild.CLICKHOUSE, _ends_at(point))
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(EndedError):
                await ended.from_backup()
    async with asyncio.timeout(LIMIT_S):
        report = await Rebuild(_settings(broker), whole, rebuild.CLICKHOUSE).from_backup()
    # Records of the journal hold ten rows each: of the first partition the first two are kept, of the other the first.
    assert (report.partitions, report.rows) == (PARTITIONS, 10 + 20)
    assert _is_whole(whole), _sums(whole)


async def _as_restored(engine: Engine) -> None:
    delete = "ALTER TABLE events DELETE WHERE {} SETTINGS mutations_sync = 2"
    engine.command(delete.format(f"id = {public_id(0, 25)}"))
    engine.command(delete.format(f"id % 1024 = 1 AND id > {public_id(1, 12)}"))
    engine.command("TRUNCATE TABLE model_day")


async def test_a_backup_of_another_history_is_refused_before_anything_is_changed(
    broker: Broker, whole: Engine
) -> None:
    row = f"INSERT INTO events (id, org) VALUES ({public_id(0, ROWS + 1)}, 'org_a')"
    whole.command(row)
    with pytest.raises(
        MixedHistoriesError, match=f"up to position {ROWS + 1}, but .* ends before {ROWS + 1}"
    ):
        await Rebuild(_settings(broker), whole, rebuild.CLICKHOUSE).from_backup()
    assert _sums(whole)[0][0] == ROWS * PARTITIONS + 1


async def test_only_the_days_that_are_named_are_made_again(broker: Broker, whole: Engine) -> None:
    sums = "SELECT toString(day), sum(requests) FROM usage_day GROUP BY day ORDER BY day"
    before = whole.query(sums, row=tuple[str, int])
    assert len(before) > 1
    whole.command("INSERT INTO usage_day SELECT * FROM usage_day")
    days = [date.fromisoformat(day) for day, _ in before]
    async with asyncio.timeout(LIMIT_S):
        await Rebuild(_settings(broker), whole, rebuild.ROLL_UPS).roll_ups(days[0], days[-2])
    last, requests = before[-1]
    assert whole.query(sums, row=tuple[str, int]) == [*before[:-1], (last, 2 * requests)]


async def test_parts_of_two_histories_stop_the_sink_before_it_writes(broker: Broker, whole: Engine) -> None:
    with pytest.raises(MixedHistoriesError, match="'metring'"):
        await _open(_owner(broker, whole, deployment="metring"))
    # The sink's own topic is lost.
    kept = await _place(broker, None)
    with pytest.raises(MixedHistoriesError, match="metering rebuild clickhouse"):
        await _open(_owner(broker, whole))
    # Kafka is of the moment before the last ten rows.
    older = structs.replace(ranges.decode(kept), position=ROWS - 9, parts=())
    await _place(broker, ranges.encode(older))
    with pytest.raises(MixedHistoriesError, match=f"up to position {ROWS}, but .* up to {ROWS - 10} only"):
        await _open(_owner(broker, whole))
    await _place(broker, kept)
    # The database is another deployment's as well.
    whole.command("INSERT INTO deployment (name, id, epoch) VALUES ('other', '', 1)")
    with pytest.raises(MixedHistoriesError, match=r"the database is of the deployment other/"):
        await _open(_owner(broker, whole))
    whole.command("TRUNCATE TABLE deployment")
    assert _is_whole(whole)
    # The database is empty, and the sink was past all rows of the partition.
    later = structs.replace(ranges.decode(kept), position=ROWS + 1, parts=())
    await _place(broker, ranges.encode(later))
    whole.command("TRUNCATE TABLE events")
    with pytest.raises(MixedHistoriesError, match="lacks the row"):
        await _open(_owner(broker, whole))
    assert _sums(whole)[0][0] == 0


async def _place(broker: Broker, value: bytes | None) -> bytes:
    """Write what the sink of partition 0 finds as its last range, and return what it was."""
    log = FencedLog(broker.connection, "metering-sink-0", role="sink")
    await log.start()
    place = TopicPlace(topics.SINK_STATE, 0)
    before = (await log.restore(*place)).get(INTENT_KEY, b"")
    await log.commit({place: [Output(INTENT_KEY, value)]})
    await log.close()
    return before

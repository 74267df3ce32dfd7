"""Two histories stop the sink, and the rebuilds go to their right end, whatever step they were ended at: real broker and engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import date

import pytest
from msgspec.structs import replace

from pipeline import topics
from pipeline.clickhouse.client import Engine
from pipeline.connection import KafkaConnection
from pipeline.identity import Identity, MixedHistoriesError
from pipeline.journal import REQUESTS, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from pipeline.sink import rebuild
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.protocol import INTENT_KEY
from pipeline.sink.rebuild import Rebuild
from pipeline.sink.sink import Sink
from pipeline.steps import Output, TopicPlace
from tests.support import parts
from tests.support.journal_rows import random_requests

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
        rows = [replace(row, id=public_id(partition, n)) for n, row in enumerate(made, start=1)]
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
    )
    return [engine.query(sql, row=tuple[int, int])[0] for sql in asked]


def _is_whole(engine: Engine) -> bool:
    sums = _sums(engine)
    return sums[0][0] == ROWS * PARTITIONS and len(set(sums)) == 1


async def _killed_at(broker: Broker, engine: Engine, work: str, point: str, times: int = 1) -> Rebuild:
    """Run a command that ends at a step, and return the one that is run after it."""
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == times:
            raise EndedError(point)

    ended = Rebuild(_settings(broker), engine, work, reached)
    with pytest.raises(EndedError):
        await (ended.clickhouse() if work == rebuild.CLICKHOUSE else ended.roll_ups(None, None))
    return Rebuild(_settings(broker), engine, work)


async def test_the_database_is_made_again_from_the_journal_whatever_ended_the_command(
    broker: Broker, engine: Engine
) -> None:
    # The sink's topic is new and the database empty: the first time is a plain start.
    async with asyncio.timeout(LIMIT_S):
        await Rebuild(_settings(broker), engine, rebuild.CLICKHOUSE).clickhouse()
        assert _is_whole(engine)
        for point, times in (
            ("rebuild.holding", 1),
            ("rebuild.held", 1),
            ("rebuild.emptied", 1),
            ("rebuild.made", 1),
            ("rebuild.releasing", 1),
            ("rebuild.released", 1),
        ):
            again = await _killed_at(broker, engine, rebuild.CLICKHOUSE, point, times)
            report = await again.clickhouse()
            assert (report.partitions, report.rows) == (PARTITIONS, ROWS * PARTITIONS)
            assert _is_whole(engine), (point, _sums(engine))

    # Roll-ups that lack sums, or have too many, become those of the rows again.
    async with asyncio.timeout(LIMIT_S):
        for point in (
            "rebuild.holding",
            "rebuild.held",
            "rebuild.made",
            "rebuild.releasing",
            "rebuild.released",
        ):
            engine.command("TRUNCATE TABLE usage_day")
            engine.command("INSERT INTO model_day SELECT * FROM model_day")
            again = await _killed_at(broker, engine, rebuild.ROLL_UPS, point)
            report = await again.roll_ups(None, None)
            assert _is_whole(engine), (point, _sums(engine))
            assert report.first_day is not None
        # Nothing is sent again that is summed already, and what follows goes on.
        for partition in range(PARTITIONS):
            await _open(_owner(broker, engine, partition))
        assert _is_whole(engine)
        days = [
            date.fromisoformat(day)
            for (day,) in engine.query("SELECT DISTINCT toString(day) FROM events ORDER BY 1", row=tuple[str])
        ]
        engine.command("INSERT INTO usage_day SELECT * FROM usage_day")
        await Rebuild(_settings(broker), engine, rebuild.ROLL_UPS).roll_ups(days[0], days[-2])
        per_day = (
            engine.query(
                "SELECT sum(requests) = (SELECT count() FROM events WHERE events.day = usage_day.day) FROM usage_day GROUP BY day ORDER BY day",
                row=tuple[bool],
            )
            if False
            else engine.query(
                "SELECT u.n = e.n FROM (SELECT day, sum(requests) AS n FROM usage_day GROUP BY day) AS u"
                " JOIN (SELECT day, count() AS n FROM events GROUP BY day) AS e USING (day) ORDER BY day",
                row=tuple[bool],
            )
        )
        assert [bool(same) for (same,) in per_day] == [True] * (len(days) - 1) + [False]
        await Rebuild(_settings(broker), engine, rebuild.ROLL_UPS).roll_ups(None, None)
        assert _is_whole(engine)

    # A mistyped name, a lost topic of the sink, a database of an earlier moment and one of another deployment.
    with pytest.raises(MixedHistoriesError, match="'metring'"):
        await _open(_owner(broker, engine, deployment="metring"))
    log = FencedLog(broker.connection, "metering-sink-0", role="sink")
    await log.start()
    place = TopicPlace(topics.SINK_STATE, 0)
    kept = (await log.restore(*place))[INTENT_KEY]
    await log.commit({place: [Output(INTENT_KEY, None)]})
    await log.close()
    with pytest.raises(MixedHistoriesError, match="metering rebuild clickhouse"):
        await _open(_owner(broker, engine))
    assert _is_whole(engine)
    log = FencedLog(broker.connection, "metering-sink-0", role="sink")
    await log.start()
    await log.commit({place: [Output(INTENT_KEY, kept)]})
    await log.close()
    engine.command("INSERT INTO deployment (name, id, epoch) VALUES ('other', '', 1)")
    with pytest.raises(MixedHistoriesError, match="the database is of the deployment other/"):
        await _open(_owner(broker, engine))
    engine.command("TRUNCATE TABLE events")
    engine.command("TRUNCATE TABLE deployment")
    with pytest.raises(MixedHistoriesError, match="lacks the row"):
        await _open(_owner(broker, engine))
    await Rebuild(_settings(broker), engine, rebuild.CLICKHOUSE).clickhouse()
    assert _is_whole(engine)


def _unused() -> tuple[object, ...]:
    return (Identity, Sink, time)

"""Publish rates: read what is there, decide, write, all under one fence.

Owns: that two operators cannot publish against each other.
Called by: `cli/catalog.py`, `demo/`. The deciding is `catalog/apply.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import topics
from pipeline.catalog.rates import Rate, RateTable, decode_rate, encode_rate
from pipeline.kafka.fenced import FencedLog, Output

PLACE = TopicPartition(topics.CATALOG, 0)


async def publish_rates(
    servers: str, deployment: str, plan: Callable[[RateTable], Sequence[Rate]]
) -> tuple[Sequence[Rate], int]:
    """Publish the rates that `plan` makes of those there are; return them and the catalog's end after.

    Raises what `plan` raises, with nothing published.
    """
    log = FencedLog(servers, f"{deployment}-catalog")
    await log.start()
    try:
        table = RateTable()
        for value in (await log.restore(PLACE.topic, PLACE.partition)).values():
            table.add(decode_rate(value))
        wanted = plan(table)
        if wanted:
            await log.commit({PLACE: [Output(*encode_rate(rate)) for rate in wanted]})
    finally:
        await log.close()
    return wanted, await _end(servers)


async def _end(servers: str) -> int:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        return int((await consumer.end_offsets([PLACE]))[PLACE])
    finally:
        await consumer.stop()

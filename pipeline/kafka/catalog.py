"""The catalog on Kafka: follow it, and publish to it under one fence.

Owns: that two operators cannot publish against each other.
Called by: the worker and the server follow; `cli/catalog.py` and the demo publish what `catalog/apply.py`
decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from aiokafka import ConsumerRecord, TopicPartition
from msgspec import MsgspecError

from pipeline import topics
from pipeline.catalog.rates import Rate, RateTable
from pipeline.catalog.stored import decode_rate, encode_rate
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.follow import Follower
from pipeline.steps import Output

log = logging.getLogger(__name__)

PLACE = TopicPartition(topics.CATALOG, 0)


def catalog_follower(servers: str, rates: RateTable) -> Follower:
    """Return the follower that keeps a table of rates up to date; what is no rate is ignored, loudly."""

    def take(record: ConsumerRecord) -> None:
        try:
            rates.add(decode_rate(record.value))
        except MsgspecError:
            log.exception("a record of %s is no rate and is ignored: offset %d", record.topic, record.offset)

    return Follower(servers, [topics.CATALOG], take)


async def publish_rates(
    servers: str, deployment: str, plan: Callable[[RateTable], Sequence[Rate]]
) -> tuple[Sequence[Rate], int]:
    """Publish the rates that `plan` makes of those there are; return them and the catalog's end after.

    Raises what `plan` raises, with nothing published.
    """
    fenced = FencedLog(servers, f"{deployment}-catalog")
    await fenced.start()
    try:
        table = RateTable()
        for value in (await fenced.restore(PLACE.topic, PLACE.partition)).values():
            table.add(decode_rate(value))
        wanted = plan(table)
        if wanted:
            await fenced.commit({PLACE: [Output(*encode_rate(rate)) for rate in wanted]})
    finally:
        await fenced.close()
    return wanted, (await ends_of(servers, [PLACE]))[PLACE]

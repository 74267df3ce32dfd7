"""The catalog on Kafka: follow it, read it as it is now, and publish to it under one fence.

Owns: that two operators cannot publish against each other, and what a bad record of the topic means.
Called by: the worker and the server follow; `cli/catalog.py` and the demo publish; `operations/` reads.
Next: `catalog/apply.py` decides what is published.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from aiokafka import TopicPartition
from msgspec import MsgspecError

from pipeline import topics
from pipeline.catalog.rates import Rate, RateTable
from pipeline.catalog.stored import NewerRate, decode_rate, decode_rate_key, encode_rate
from pipeline.connection import KafkaConnection
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.kafka.follow import Subscription
from pipeline.steps import Output

log = logging.getLogger(__name__)

PLACE = TopicPartition(topics.CATALOG, 0)


def to_rates(rates: RateTable) -> Subscription:
    """Return the subscription that keeps a table of rates up to date.

    A rate of a newer release stops it: to go on without that rate would be to charge by the one before.
    """
    return Subscription(
        topics.CATALOG,
        put=lambda _key, value: rates.add(decode_rate(value)),
        delete=lambda key: rates.remove(*decode_rate_key(key)),
        stops_at=(NewerRate,),
    )


async def read_rates(kafka: KafkaConnection) -> RateTable:
    """Return the rates as they are now. Raises NewerRate, and what Kafka raises."""
    return _table_of(await read_compacted(kafka, PLACE))


async def publish_rates(
    kafka: KafkaConnection, deployment: str, plan: Callable[[RateTable], Sequence[Rate]]
) -> tuple[Sequence[Rate], int]:
    """Publish the rates that `plan` makes of those there are; return them and the catalog's end after.

    Raises what `plan` raises, and NewerRate, with nothing published.
    """
    fenced = FencedLog(kafka, f"{deployment}-catalog")
    await fenced.start()
    try:
        wanted = plan(_table_of(await fenced.restore(PLACE.topic, PLACE.partition)))
        if wanted:
            await fenced.commit({PLACE: [Output(*encode_rate(rate)) for rate in wanted]})
    finally:
        await fenced.close()
    return wanted, (await ends_of(kafka, [PLACE]))[PLACE]


def _table_of(records: Mapping[bytes, bytes]) -> RateTable:
    """Return the rates of the topic's records, what is no rate passed over loudly, as every follower does."""
    table = RateTable()
    for key, value in records.items():
        try:
            table.add(decode_rate(value))
        except MsgspecError as error:
            log.error("the record %r of %s is no rate: %s", key, topics.CATALOG, error)  # noqa: TRY400
    return table

"""The catalog on Kafka: follow it, read it as it is now, and publish to it under one fence.

Owns: that two operators cannot publish against each other, by whose clock they publish, and what a bad record of
the topic means.
Called by: the worker and the server follow; `cli/catalog.py` and the demo publish; `operations/` reads.
Next: `catalog/apply.py` decides what is published.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from aiokafka import TopicPartition
from msgspec import MsgspecError

from pipeline import topics
from pipeline.catalog.apply import PUBLISHING_MAX_MS
from pipeline.catalog.rates import Rate, RateTable
from pipeline.catalog.stored import decode_rate, decode_rate_key, encode_rate
from pipeline.connection import KafkaConnection
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.kafka.follow import Subscription
from pipeline.steps import Output, TopicPlace

log = logging.getLogger(__name__)

PLACE = TopicPlace(topics.CATALOG, 0)


class CatalogClockError(Exception):
    """Nobody can tell the broker's time: the topic was made by an earlier release. The message says what to do."""


def to_rates(rates: RateTable) -> Subscription:
    """Return the subscription that keeps a table of rates up to date."""
    return Subscription(
        topics.CATALOG,
        put=lambda _key, value: rates.add(decode_rate(value)),
        delete=lambda key: rates.remove(*decode_rate_key(key)),
    )


async def read_rates(kafka: KafkaConnection) -> RateTable:
    """Return the rates as they are now. Raises NewerFormatError, and what Kafka raises."""
    return _table_of(await read_compacted(kafka, TopicPartition(*PLACE)))


async def publish_rates(
    kafka: KafkaConnection, deployment: str, plan: Callable[[RateTable, int], Sequence[Rate]]
) -> tuple[Sequence[Rate], int]:
    """Publish the rates that `plan` makes of those there are and of the broker's time in milliseconds.

    Returns them and the catalog's end after. Raises what `plan` raises, CatalogClockError and NewerFormatError, with
    nothing published; TimeoutError or a KafkaError where nobody knows whether it was.
    """
    published: list[Rate] = []

    def decide(rates: RateTable, now_ms: int) -> list[Output]:
        published.extend(plan(rates, now_ms))
        return [Output(*encode_rate(rate)) for rate in published]

    end = await _change(kafka, deployment, decide)
    return published, end


async def withdraw_rate(
    kafka: KafkaConnection, deployment: str, choose: Callable[[RateTable, int], Rate]
) -> tuple[Rate, int]:
    """Take the rate out of the catalog that `choose` names; raises and returns as `publish_rates` does."""
    withdrawn: list[Rate] = []

    def decide(rates: RateTable, now_ms: int) -> list[Output]:
        withdrawn.append(choose(rates, now_ms))
        return [Output(encode_rate(withdrawn[0])[0], None)]

    end = await _change(kafka, deployment, decide)
    return withdrawn[0], end


async def _change(
    kafka: KafkaConnection, deployment: str, decide: Callable[[RateTable, int], list[Output]]
) -> int:
    """Write what `decide` makes of the rates there are and of the broker's time; return the catalog's end after."""
    fenced = FencedLog(kafka, f"{deployment}-catalog", limit_s=PUBLISHING_MAX_MS / 3000)
    await fenced.start()
    try:
        rates = _table_of(await fenced.restore(PLACE.topic, PLACE.partition))
        # From here on PUBLISHING_MAX_MS is bounded by the two transactions' own limits.
        now_ms = await fenced.confirm_owner(PLACE)
        if now_ms is None:
            raise CatalogClockError(
                f"{topics.CATALOG} does not carry the broker's time: run `metering topics` of this release first"
            )
        outputs = decide(rates, now_ms)
        if outputs:
            await fenced.commit({PLACE: outputs})
    finally:
        await fenced.close()
    place = TopicPartition(*PLACE)
    return (await ends_of(kafka, [place]))[place]


def _table_of(records: Mapping[bytes, bytes]) -> RateTable:
    """Return the rates of the topic's records, what is no rate passed over loudly, as every follower does."""
    table = RateTable()
    for key, value in records.items():
        try:
            table.add(decode_rate(value))
        except MsgspecError as error:
            log.error("the record %r of %s is no rate: %s", key, topics.CATALOG, error)  # noqa: TRY400
    return table

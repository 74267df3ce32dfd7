"""What the notary reads, in real topics: rates, the journal's rows, and how far their owners have posted.

Called by: the tests that run a notary.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import ist, topics
from pipeline.catalog.stored import encode_rate
from pipeline.connection import KafkaConnection
from pipeline.journal import Row
from pipeline.kafka.clients import producer
from pipeline.kafka.fenced import FencedLog
from pipeline.posting.state import META_KEY, Meta, encode_meta
from pipeline.steps import Output, TopicPlace
from tests.support.notary import RATES, records_of


async def write_rates(kafka: KafkaConnection) -> None:
    """Write the rates of the tests' books."""
    rates = FencedLog(kafka, "rates")
    await rates.start()
    await rates.commit({TopicPlace(topics.CATALOG, 0): [Output(*encode_rate(rate)) for rate in RATES]})
    await rates.close()


async def write_rows(kafka: KafkaConnection, partition: int, rows: Sequence[Row]) -> None:
    """Append rows to a partition of the journal."""
    writing = producer(kafka)
    await writing.start()
    try:
        for record in records_of(rows):
            await writing.send_and_wait(
                topics.JOURNAL, record.value, partition=partition, headers=record.headers()
            )
    finally:
        await writing.stop()


async def say_posted(kafka: KafkaConnection, day: int, positions: Sequence[int]) -> None:
    """Have each partition's owner say that it has posted up to the end of a day, and which position is the next."""
    for partition, position in enumerate(positions):
        log = FencedLog(kafka, f"owner-{partition}")
        await log.start()
        meta = Meta(len(positions), position=position, posted_ms=ist.day_end_ms(day))
        await log.commit({TopicPlace(topics.STATE, partition): [Output(META_KEY, encode_meta(meta))]})
        await log.close()

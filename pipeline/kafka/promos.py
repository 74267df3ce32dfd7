"""Promo codes on Kafka: follow them, publish one, delete one.

Owns: where they go. The last record of a code counts.
Called by: the worker follows; `cli/promo.py` and the demo publish.
"""

from __future__ import annotations

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.accounts.promos import Promo, PromoError, PromoTable, decode_promo, encode_promo, key_of
from pipeline.connection import KafkaConnection
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.follow import Subscription
from pipeline.steps import Output, TopicPlace

PLACE = TopicPlace(topics.PROMOS, 0)


def to_promos(promos: PromoTable) -> Subscription:
    """Return the subscription that keeps a table of promo codes up to date."""
    return Subscription(
        topics.PROMOS,
        put=lambda _key, value: promos.add(decode_promo(value)),
        delete=lambda key: promos.remove(key.decode()),
    )


async def publish_promo(kafka: KafkaConnection, deployment: str, promo: Promo) -> int:
    """Publish a promo code, in the place of an earlier one, and return the topic's end after it."""
    key, value = encode_promo(promo)
    return await _write(kafka, deployment, Output(key, value))


async def delete_promo(kafka: KafkaConnection, deployment: str, code: str) -> int:
    """Delete a promo code and return the topic's end after that. Raises PromoError where there is no such code."""
    return await _write(kafka, deployment, Output(key_of(code).encode(), None))


async def _write(kafka: KafkaConnection, deployment: str, output: Output) -> int:
    fenced = FencedLog(kafka, f"{deployment}-promos")
    await fenced.start()
    try:
        if output.value is None and output.key not in await fenced.restore(PLACE.topic, PLACE.partition):
            raise PromoError("there is no such promo code")
        await fenced.commit({PLACE: [output]})
    finally:
        await fenced.close()
    place = TopicPartition(*PLACE)
    return (await ends_of(kafka, [place]))[place]

"""Promo codes on Kafka: follow them, and publish one.

Owns: where they go. The last record of a code counts.
Called by: the worker follows; `cli/promo.py` and the demo publish.
"""

from __future__ import annotations

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.accounts.promos import Promo, PromoTable, decode_promo, encode_promo
from pipeline.connection import KafkaConnection
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.follow import Subscription
from pipeline.steps import Output

PLACE = TopicPartition(topics.PROMOS, 0)


def to_promos(promos: PromoTable) -> Subscription:
    """Return the subscription that keeps a table of promo codes up to date."""
    return Subscription(
        topics.PROMOS,
        put=lambda _key, value: promos.add(decode_promo(value)),
        delete=lambda key: promos.remove(key.decode()),
    )


async def publish_promo(kafka: KafkaConnection, deployment: str, promo: Promo) -> int:
    """Publish a promo code, in the place of an earlier one, and return the topic's end after it."""
    fenced = FencedLog(kafka, f"{deployment}-promos")
    await fenced.start()
    try:
        await fenced.commit({PLACE: [Output(*encode_promo(promo))]})
    finally:
        await fenced.close()
    return (await ends_of(kafka, [PLACE]))[PLACE]

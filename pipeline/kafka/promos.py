"""Promo codes on Kafka: publish one.

Owns: where they go. The worker follows the topic; the last record of a code counts.
Called by: `cli/promo.py`, the demo.
"""

from __future__ import annotations

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.accounts.promos import Promo, encode_promo
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog
from pipeline.steps import Output

PLACE = TopicPartition(topics.PROMOS, 0)


async def publish_promo(servers: str, deployment: str, promo: Promo) -> int:
    """Publish a promo code, in the place of an earlier one, and return the topic's end after it."""
    fenced = FencedLog(servers, f"{deployment}-promos")
    await fenced.start()
    try:
        await fenced.commit({PLACE: [Output(*encode_promo(promo))]})
    finally:
        await fenced.close()
    return (await ends_of(servers, [PLACE]))[PLACE]

"""The registered gateways on Kafka: follow them, read them, register one, remove one.

Owns: where they go. The last record of a gateway's name counts.
Called by: the worker follows; `cli/gateway.py` reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.gateway_book import GatewayBook, RegisteredGateway, decode_gateway, encode_gateway
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.kafka.follow import Subscription
from pipeline.steps import Output, TopicPlace

PLACE = TopicPlace(topics.GATEWAYS, 0)


def to_gateways(gateways: GatewayBook) -> Subscription:
    """Return the subscription that keeps a book of gateways up to date."""
    return Subscription(
        topics.GATEWAYS,
        put=lambda _key, value: gateways.add(decode_gateway(value)),
        delete=lambda key: gateways.remove(key.decode()),
    )


async def read_gateways(kafka: KafkaConnection) -> list[RegisteredGateway]:
    """Return the gateways that are registered now, by name. Raises NewerFormatError, and what Kafka raises."""
    records = await read_compacted(kafka, TopicPartition(*PLACE))
    return [decode_gateway(records[key]) for key in sorted(records)]


async def register_gateway(
    kafka: KafkaConnection,
    deployment: str,
    name: str,
    decide: Callable[[RegisteredGateway | None], RegisteredGateway],
) -> tuple[RegisteredGateway, int]:
    """Write what `decide` makes of a gateway's record as it is; return it, and the topic's end after it."""
    made: list[RegisteredGateway] = []

    def change(before: RegisteredGateway | None) -> bytes:
        made.append(decide(before))
        return encode_gateway(made[-1])

    end = await _write(kafka, deployment, name, change)
    return made[-1], end


async def remove_gateway(kafka: KafkaConnection, deployment: str, name: str) -> int:
    """Delete a gateway's record; return the topic's end after that. Raises LookupError where there is none."""

    def change(before: RegisteredGateway | None) -> None:
        if before is None:
            raise LookupError(f"{name} is not registered")

    return await _write(kafka, deployment, name, change)


async def _write(
    kafka: KafkaConnection,
    deployment: str,
    name: str,
    change: Callable[[RegisteredGateway | None], bytes | None],
) -> int:
    """Write what `change` makes of a gateway's record as it is, under a fence; return the topic's end after it."""
    fenced = FencedLog(kafka, f"{deployment}-gateways")
    await fenced.start()
    try:
        kept = (await fenced.restore(PLACE.topic, PLACE.partition)).get(name.encode())
        value = change(None if kept is None else decode_gateway(kept))
        if value != kept:
            await fenced.commit({PLACE: [Output(name.encode(), value)]})
    finally:
        await fenced.close()
    place = TopicPartition(*PLACE)
    return (await ends_of(kafka, [place]))[place]

"""librdkafka, through confluent-kafka: a producer that is neither ours nor aiokafka's.

Owns: sending records with it, and where they went. `murmur2_random` is the partitioner that a gateway on librdkafka needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message, Producer

from pipeline.contract import SCHEMAS

LIMIT_S = 60
VECTORS: list[dict[str, Any]] = json.loads(
    (SCHEMAS / "corpus" / "partitions.json").read_text(encoding="utf-8")
)["orgs"]
"""Orgs of the corpus, and where each belongs."""


def send(
    servers: str, topic: str, records: list[tuple[str, bytes]], **settings: Any
) -> list[tuple[int, int]]:
    """Send records of a key and a value, and return where each is: partition and offset."""
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, **settings})
    places: dict[int, tuple[int, int]] = {}

    def told(nth: int) -> Callable[[Any, Message], None]:
        def delivered(error: Any, message: Message) -> None:
            assert error is None, error
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            places[nth] = partition, offset

        return delivered

    for nth, (key, value) in enumerate(records):
        producer.produce(topic, value, key.encode(), on_delivery=told(nth))
        producer.poll(0)
    assert producer.flush(LIMIT_S) == 0
    return [places[nth] for nth in range(len(records))]

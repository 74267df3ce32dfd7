"""librdkafka's partitioner is the one of this product, by the setting that docs/gateway-protocol.md names and by no other."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.gateway.librdkafka import LIMIT_S, VECTORS, send


@pytest.mark.parametrize("partitions", [3, 4, 12])
def test_an_org_is_where_murmur2_random_puts_it(kafka_servers: str, partitions: int) -> None:
    topic = f"vectors-{partitions}"
    # Named: its answers are lost with it.
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    created = admin.create_topics([NewTopic(topic, partitions, 1)])
    created[topic].result(LIMIT_S)
    records = [(vector["org"], b"") for vector in VECTORS]
    expected = [vector["partitions"][str(partitions)] for vector in VECTORS]
    places = send(kafka_servers, topic, records, partitioner="murmur2_random")
    assert [partition for partition, _ in places] == expected
    # Which is why the setting is needed: without it librdkafka has a partitioner of its own.
    assert [partition for partition, _ in send(kafka_servers, topic, records)] != expected

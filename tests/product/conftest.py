"""The one deployment of this folder; each test has orgs of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline import topics
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.clients import producer
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from tests.support.product.deployment import PARTITIONS, Deployment, deployed_at

FOLLOWED = (
    *(topics.CATALOG, topics.PROMOS, topics.KEYS, topics.ORDERS, topics.VERDICTS),
    *(topics.SESSIONS, topics.TOKENS, topics.CHECKPOINTS_STATE),
)


@pytest.fixture(scope="package")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A broker, a worker and a server, with the shipped catalog, which log as JSON.

    Before they start, each topic that they follow holds a deleted key and a record that nobody understands.
    """
    home = tmp_path_factory.mktemp("product")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("METERING_LOG_FORMAT", "json")
        with deployed_at(home, _spoil) as deployment:
            yield deployment


async def _spoil(broker: Broker) -> None:
    await ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS))
    writer = producer(broker.connection)
    await writer.start()
    try:
        for topic in FOLLOWED:
            for value in (b"{", None):
                await writer.send_and_wait(topic, value, key=b"spoilt", partition=0)
            await writer.send_and_wait(topic, b"nonsense", key=b"nonsense", partition=0)
    finally:
        await writer.stop()

"""Kafka with TLS, passwords and rights: every role works with its own, and a wrong one is one line that says what to set."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from pipeline import topics
from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.kafka import clients
from pipeline.kafka.admin import TopicsError, ensure_topics
from pipeline.kafka.attempts import described
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.refused import KafkaAwayError, KafkaRefusedError, in_one_line
from pipeline.settings import Settings
from pipeline.steps import Output, TopicPlace
from tests.support import ports
from tests.support.builders import NOTARY_KEY
from tests.support.secured.certificates import Authority
from tests.support.secured.cluster import ADMIN, Door, SecuredCluster
from tests.support.secured.product import NOBODY, USERS, SecuredProduct, prepared

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 2


@pytest.fixture(autouse=True)
def _settings_of_nobody() -> None:
    """The processes here get their settings from the cluster."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredProduct]:
    """One broker whose users have the rights of their roles, and the topics; no role runs yet."""
    home = tmp_path_factory.mktemp("secured")
    cluster = SecuredCluster(home, (*USERS, NOBODY))
    cluster.doors = {
        "EXPIRED": Door("SASL_SSL", cluster.authority.issue("expired", valid_days=(-2, -1))),
        "ELSEWHERE": Door("SASL_SSL", cluster.authority.issue("elsewhere", address="10.1.2.3")),
        "MUTUAL": Door("SSL", cluster.authority.issue("mutual"), {"ssl.client.auth": "required"}),
    }
    async with prepared(cluster, home, PARTITIONS, seed=1) as running:
        yield running


async def _said(kafka: KafkaConnection) -> str:
    """Return what a client says that is refused."""
    with pytest.raises((KafkaRefusedError, KafkaAwayError)) as raised:
        async with clients.started_admin(kafka, request_timeout_ms=10_000):
            pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_a_wrong_setting_is_one_line_that_names_it(product: SecuredProduct, tmp_path: Path) -> None:
    cluster = product.cluster
    good = cluster.security(ADMIN)

    async def said(security: KafkaSecurity, servers: str = cluster.servers) -> str:
        return await _said(KafkaConnection(servers, security))

    assert "METERING_KAFKA_PASSWORD" in await said(replace(good, password="another"))
    assert "METERING_KAFKA_USERNAME" in await said(replace(good, username="stranger"))
    assert "METERING_KAFKA_SASL_MECHANISM" in await said(replace(good, sasl_mechanism="PLAIN"))
    other = Authority(tmp_path, "other")
    assert "METERING_KAFKA_CA_FILE" in await said(replace(good, ca_file=str(other.file)))
    assert "has expired" in await said(good, cluster.door("EXPIRED"))
    assert "METERING_KAFKA_URL" in await said(good, cluster.door("ELSEWHERE"))
    mutual = KafkaSecurity("SSL", ca_file=str(cluster.authority.file))
    assert "METERING_KAFKA_CERT_FILE" in await said(mutual, cluster.door("MUTUAL"))
    forged, own = other.issue("forged"), cluster.authority.issue("operator")
    expired = cluster.authority.issue("late", valid_days=(-2, -1))
    for wrong in (forged, expired):
        shown = replace(mutual, cert_file=str(wrong.certificate), key_file=str(wrong.key))
        assert "METERING_KAFKA_CERT_FILE" in await said(shown, cluster.door("MUTUAL"))
    shown = replace(mutual, cert_file=str(own.certificate), key_file=str(own.key))
    async with clients.started_admin(KafkaConnection(cluster.door("MUTUAL"), shown)) as admin:
        assert (await admin.describe_cluster())["brokers"]


async def test_who_closes_does_not_wait_for_a_broker_to_take_leave(product: SecuredProduct) -> None:
    """TLS has both ends do it, and uvloop waits 30 s for a broker that still owes a fetch. Whoever opens a partition comes and goes often."""
    kafka, place = product.cluster.connection, TopicPartition(topics.KEYS, 0)

    async def come_and_go(times: int) -> None:
        for _ in range(times):
            async with clients.started_consumer(kafka) as consumer:
                consumer.assign([place])
                consumer.seek(place, 0)
                await consumer.end_offsets([place])

    async def many() -> None:
        async with asyncio.timeout(25):
            await asyncio.gather(*(come_and_go(3) for _ in range(8)))

    def in_a_loop_of_workers() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(many())

    await asyncio.to_thread(in_a_loop_of_workers)


async def test_a_protocol_that_does_not_fit_the_port_is_named(product: SecuredProduct) -> None:
    """A broker that closes the connection may also be one that is being stopped, so both are said."""
    for security in (KafkaSecurity(), KafkaSecurity("SSL", ca_file=str(product.cluster.authority.file))):
        with pytest.raises(KafkaError, match="METERING_KAFKA_SECURITY_PROTOCOL") as raised:
            async with clients.started_admin(
                KafkaConnection(product.cluster.servers, security), request_timeout_ms=5_000
            ):
                pass
        assert in_one_line(raised.value) == str(raised.value)


async def test_what_topics_cannot_have_is_told_with_what_to_set(product: SecuredProduct) -> None:
    kafka, new = product.cluster.connection, [topics.Topic("metering.another")]
    with pytest.raises(TopicsError, match="METERING_REPLICATION_FACTOR is 3"):
        await ensure_topics(kafka, Settings(replication_factor=3), new)
    with pytest.raises(TopicsError, match=r"METERING_MIN_INSYNC_REPLICAS=2: set that to 1"):
        await ensure_topics(kafka, Settings(partitions=PARTITIONS, min_insync_replicas=2))
    with pytest.raises(TopicsError, match="metering topics --acls"):
        await ensure_topics(product.cluster.as_user("worker"), Settings(), new)


async def test_a_record_that_a_topic_does_not_take_is_told_with_what_to_run(product: SecuredProduct) -> None:
    kafka = product.cluster.connection
    small = topics.Topic("metering.small", partitioned=False, bytes_max=2_000)
    await ensure_topics(kafka, Settings(), [small])
    writer = FencedLog(kafka, "metering-small")
    await writer.start()
    with pytest.raises(MessageSizeTooLargeError) as raised:
        await writer.commit({TopicPlace(small.name, 0): [Output(b"k", random.Random(1).randbytes(20_000))]})
    await writer.close()
    assert "run `metering topics`" in (in_one_line(raised.value) or "")


ANOTHER = {"METERING_KAFKA_PASSWORD": "another"}
AWAY = {"METERING_KAFKA_URL": "kafka://127.0.0.1:1"}
REFUSED: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("worker", "worker", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("sink", "sink", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("notary", "notary", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("server", "server", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("worker", "verify", {}, "may not read in the consumer group"),
    ("worker", "worker", AWAY, "no broker answers: 127.0.0.1:1 "),
    ("notary", "notary", AWAY, "no broker answers: 127.0.0.1:1 "),
)
"""Command, user, changes of its environment, and what it has to say.

That of `verify` may read every topic: a process that lacks several rights tells of each that it meets before it ends.
"""


async def test_a_role_that_is_refused_ends_with_one_line(product: SecuredProduct) -> None:
    def ended(command: str, user: str, change: dict[str, str]) -> subprocess.CompletedProcess[str]:
        taken = {
            "METERING_WORKER_PORT": str(ports.free()),
            "METERING_SERVER_STATUS_PORT": str(ports.free()),
        }
        return subprocess.run(
            [sys.executable, "-m", "pipeline", command],
            env={**product.environment(user), "METERING_NOTARY_KEY": NOTARY_KEY, **change, **taken},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    # All at once their starts would take a minute of a machine that has other tests too.
    turns = asyncio.Semaphore(2)

    async def in_turn(command: str, user: str, change: dict[str, str]) -> subprocess.CompletedProcess[str]:
        async with turns:
            return await asyncio.to_thread(ended, command, user, change)

    runs = [in_turn(command, user, change) for command, user, change, _ in REFUSED]
    for (command, user, _, line), done in zip(REFUSED, await asyncio.gather(*runs), strict=True):
        told = [each for each in done.stderr.splitlines() if re.search("may not|METERING_", each)]
        assert (done.returncode, len(told)) == (1, 1), f"{command} as {user}\n{done.stderr}"
        assert line in told[0]
        assert "Traceback" not in done.stderr, f"{command} as {user}\n{done.stderr}"


async def test_a_gateway_cannot_write_commands(product: SecuredProduct) -> None:
    async with clients.producer(product.cluster.as_user("gateway")) as forging:
        assert (await forging.send_and_wait(topics.REQUESTS, b"an event", partition=0)).offset == 0
        with pytest.raises(TopicAuthorizationFailedError) as raised:
            await forging.send_and_wait(topics.BILLING, b"a credit", partition=0)
    assert "metering.billing" in (described(raised.value) or "")

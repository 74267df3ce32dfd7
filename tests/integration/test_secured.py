"""Kafka with TLS, passwords and rights: every role works with its own, and a wrong one is one line that says what to set.

Every role runs apart here, as on Kubernetes, so this is also where each is started, watched, and told to stop.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from pipeline import topics
from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.kafka import clients
from pipeline.kafka.admin import TopicsError, ensure_topics
from pipeline.kafka.attempts import described
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.refused import KafkaAwayError, KafkaRefusedError, in_one_line
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.steps import Output, TopicPlace
from tests.support import ports
from tests.support.builders import COMMAND_KEYS, NOTARY_KEY, event, packed, rate, time_text
from tests.support.deploy import read_yaml
from tests.support.helm.chart import CHART
from tests.support.product.processes import Role
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
REFUSED: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("worker", "worker", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("sink", "sink", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("server", "server", ANOTHER, "METERING_KAFKA_PASSWORD"),
    ("worker", "server", {}, "may not"),
)
"""Command, user, changes of its environment, and what it has to say."""


async def test_a_role_that_is_refused_ends_with_one_line(product: SecuredProduct) -> None:
    def ended(command: str, user: str, change: dict[str, str]) -> subprocess.CompletedProcess[str]:
        taken = {
            "METERING_WORKER_PORT": str(ports.free()),
            "METERING_SERVER_STATUS_PORT": str(ports.free()),
        }
        return subprocess.run(
            [sys.executable, "-m", "pipeline", command],
            env={**product.environment(user), **change, **taken},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    runs = [asyncio.to_thread(ended, command, user, change) for command, user, change, _ in REFUSED]
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


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?:DEBUG|INFO) ")
"""How a line begins of which nobody has to take notice."""
LIMIT_S = 60.0


def loud(role: Role) -> list[str]:
    """Return what a role said that is no line of its log, or one above INFO."""
    return [line for line in role.log.read_text().splitlines() if not LINE.match(line)]


class Sender:
    """A gateway that publishes all the time: a hundred events of twenty orgs in each record."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self.sent = 0

    async def run(self) -> None:
        """Publish until cancelled."""
        async with clients.producer(self._kafka) as sending:
            for number in itertools.count():
                org, now = f"busy-{number % 20}", time_text(time.time_ns() // 1_000_000)
                value = packed(*(event(f"{number}-{n}", subject=org, time=now) for n in range(100)))
                await asyncio.shield(self._send(sending, value, partition_of(org, PARTITIONS)))

    async def _send(self, sending: AIOKafkaProducer, value: bytes, partition: int) -> None:
        await sending.send_and_wait(topics.REQUESTS, value, partition=partition)
        self.sent += 100


async def until(holds: Callable[[], bool], product: SecuredProduct) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, product.words_of_roles()
        await asyncio.sleep(0.1)


async def test_roles_start_without_a_warning_and_are_gone_in_time_with_work_under_way(
    product: SecuredProduct,
) -> None:
    """Each within the time that the chart gives it, with exit code 0; and whoever comes after them finishes the work."""
    worker, sink = product.add("worker-0", "worker"), product.add("sink-0", "sink")
    product.add("notary-0", "notary", METERING_NOTARY_KEY=NOTARY_KEY)
    product.add_server()
    for role in product.roles:
        role.start()
    await product.ready()
    assert {role.name: loud(role) for role in product.roles} == {role.name: [] for role in product.roles}
    operator = product.cluster.as_user("operator")
    _, end = await publish_rates(operator, "metering", lambda *_: [rate()])
    asking = CommandClient(operator, COMMAND_KEYS)
    await asking.start()
    await asking.barrier(end)
    await asking.stop()
    sender = Sender(product.cluster.as_user("gateway"))
    sending = asyncio.create_task(sender.run())

    def stored() -> int:
        [[count]] = product.clickhouse.ask("SELECT count() FROM events")
        return int(count)

    await until(lambda: stored() > 0, product)
    took_s = await asyncio.gather(*map(ended, product.roles))
    assert stored() < sender.sent, "nothing was under way"
    print({role.name: f"{seconds:.1f} s" for role, seconds in zip(product.roles, took_s, strict=True)})
    sending.cancel()
    await asyncio.wait([sending])
    for role in (worker, sink):
        role.start()
    await until(lambda: stored() >= sender.sent, product)
    report = product.metering("verify", "verify")
    assert (report["requests"], report["differences"]) == (sender.sent, [])
    assert not [line for role in product.roles for line in loud(role) if " WARNING " not in line]


async def ended(role: Role) -> float:
    """Tell a role to stop; return after how many seconds it was gone."""
    given_s = read_yaml(CHART / "values.yaml")[role.command]["terminationGracePeriodSeconds"]
    began_s = time.monotonic()
    role.signal(signal.SIGTERM)
    assert role.process is not None
    assert await asyncio.to_thread(role.process.wait, given_s) == 0, role.words()
    return time.monotonic() - began_s

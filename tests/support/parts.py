"""Which Kafka and ClickHouse the tests talk to: one setting for all of them.

METERING_TEST_PARTS is `local` (the default: the embedded broker and engine), `given` (the servers of
METERING_TEST_KAFKA_URL and METERING_TEST_CLICKHOUSE_URL), or `containers` (testcontainers, where a Docker
engine runs). Tests that have to kill a broker need one of their own and are skipped on given servers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.local.broker import Broker
from tests.support import ports
from tests.support.formatted import new_broker

LOCAL, GIVEN, CONTAINERS = "local", "given", "containers"
KAFKA_IMAGE = "apache/kafka:4.1.0"
CLICKHOUSE_IMAGE = "clickhouse/clickhouse-server:26.9"


def chosen() -> str:
    """Return the setting. Raises pytest.UsageError for a word that is none."""
    parts = os.environ.get("METERING_TEST_PARTS", LOCAL)
    if parts not in (LOCAL, GIVEN, CONTAINERS):
        raise pytest.UsageError(f"METERING_TEST_PARTS is {LOCAL}, {GIVEN} or {CONTAINERS}, not {parts}")
    return parts


@contextmanager
def kafka() -> Iterator[str]:
    """Yield host:port of a Kafka for the session."""
    if chosen() == GIVEN:
        yield _given("METERING_TEST_KAFKA_URL").removeprefix("kafka://")
    elif chosen() == CONTAINERS:
        with _kafka_container() as servers:
            yield servers
    else:
        with own_broker() as broker:
            yield broker.servers


@contextmanager
def own_broker() -> Iterator[Broker]:
    """Yield an embedded broker in a directory of its own, stopped and removed at the end."""
    if chosen() == GIVEN:
        pytest.skip("this test stops and starts its broker, so it does not run on given servers")
    home = Path(tempfile.mkdtemp(prefix="metering-kafka-"))
    broker = new_broker(home)
    try:
        asyncio.run(broker.start())
        yield broker
    finally:
        asyncio.run(broker.stop())
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def clickhouse() -> Iterator[str]:
    """Yield the URL of a ClickHouse engine for the session."""
    if chosen() == GIVEN:
        yield _given("METERING_TEST_CLICKHOUSE_URL")
    elif chosen() == CONTAINERS:
        with _clickhouse_container() as url:
            yield url
    else:
        home = tempfile.mkdtemp(prefix="metering-clickhouse-")
        try:
            yield f"chdb://{home}"
        finally:
            shutil.rmtree(home, ignore_errors=True)


def _given(name: str) -> str:
    url = os.environ.get(name)
    if not url:
        raise pytest.UsageError(f"METERING_TEST_PARTS=given needs {name}")
    return url


def _docker_or_skip() -> None:
    import docker
    from docker.errors import DockerException

    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.skip(f"METERING_TEST_PARTS=containers, but no Docker engine answers: {error}")


@contextmanager
def _kafka_container() -> Iterator[str]:
    _docker_or_skip()
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    port = ports.free()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_MESSAGE_MAX_BYTES": "17825792",
    }.items():
        container = container.with_env(name, value)
    with container:
        wait_for_logs(container, "Kafka Server started", timeout=60)
        yield f"127.0.0.1:{port}"


@contextmanager
def _clickhouse_container() -> Iterator[str]:
    _docker_or_skip()
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    container = (
        DockerContainer(CLICKHOUSE_IMAGE)
        .with_exposed_ports(8123)
        .with_env("CLICKHOUSE_USER", "metering")
        .with_env("CLICKHOUSE_PASSWORD", "metering")
    )
    with container:
        wait_for_logs(container, "Ready for connections", timeout=60)
        host, port = container.get_container_host_ip(), container.get_exposed_port(8123)
        yield f"http://metering:metering@{host}:{port}/metering"

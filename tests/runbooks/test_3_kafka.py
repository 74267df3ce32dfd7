"""A broker that is silent, and a producer that leaves its transaction open: who is told, of charging and of gateways."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer

from pipeline.partitioning import partition_of
from pipeline.topics import REQUESTS
from tests.support.builders import packed
from tests.support.product.razorpay import PARTITIONS
from tests.support.runbooks.walk import Walk


@contextmanager
def frozen(walk: Walk) -> Iterator[None]:
    """Have the broker take connections and answer nothing."""
    process = walk.product.broker.process.popen
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_broker_that_is_silent(walk: Walk) -> None:
    every = (
        *("MeteringBrokerSilent", "MeteringEndsNotCompared"),
        *("MeteringSpoolFills", "MeteringSpoolWaits"),
    )
    walk.quiet(*every)
    with frozen(walk):
        walk.fires(*every, limit_s=90)
    walk.until(
        lambda: any("Kafka answers again" in each.log.read_text() for each in walk.product.roles()),
        "a log says that Kafka answers again",
        30,
    )
    assert "worker" in walk.do("MeteringEndsNotCompared", "metering topics --acls").text
    walk.over(*every)


def test_a_producer_leaves_its_transaction_open(walk: Walk) -> None:
    alert, org, hangs = "MeteringPartitionStands", "org_open", "hangs"
    walk.quiet(alert)
    walk.world.org(org)
    before = walk.world.shop.balance(org)

    async def leave_open() -> None:
        """As a process that hangs: it sends nothing more, and does not end its transaction."""
        writer = AIOKafkaProducer(
            bootstrap_servers=walk.product.servers, transactional_id=hangs, transaction_timeout_ms=600_000
        )
        await writer.start()
        await writer.begin_transaction()
        event = packed(walk.world.event(org))
        await writer.send_and_wait(REQUESTS, event, partition=partition_of(org, PARTITIONS))
        await writer.client.close()

    walk.world.run(leave_open)
    walk.fires(alert)
    # What others send after it waits too.
    walk.world.publish(walk.world.event(org))
    listed = walk.do(alert, "kafka-transactions.sh list").text
    [line] = [each for each in listed.splitlines() if each.startswith(hangs)]
    assert "Ongoing" in line
    walk.do(alert, "kafka-transactions.sh forceTerminateTransaction", ID=hangs)
    walk.over(alert)
    walk.until(lambda: walk.world.shop.balance(org) < before, "what waited is charged")
    assert all(role.running for role in walk.product.roles()), (
        "a worker does not end for what somebody else left open"
    )

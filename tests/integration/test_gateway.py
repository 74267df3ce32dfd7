"""The gateway library against a real broker: order, crashes, outages, and what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.accounts.keys import encode_key
from pipeline.accounts.model import Key
from pipeline.accounts.verdicts import PROGRESS_KEY, Progress, Verdict, encode
from pipeline.connection import KafkaConnection
from pipeline.events import RequestEvent, decode_record
from pipeline.gateway import Gateway, Refusal
from pipeline.kafka.admin import ensure_topics
from pipeline.local.broker import Broker
from pipeline.money import NANO_PER_RUPEE
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.topics import KEYS, REQUESTS, VERDICTS
from tests.support.builders import DROP, event

KILLS = 5
LIMIT_S = 30.0


def gateway_on(servers: str, spool_dir: Path, **settings: Any) -> Gateway:
    return Gateway(kafka_url=f"kafka://{servers}", node="mum-1", spool_dir=spool_dir, **settings)


def request(**changes: Any) -> dict[str, Any]:
    return event(**{"id": DROP, "source": DROP, **changes})


async def until(holds: Callable[[], bool]) -> None:
    """Return once something holds. Raises TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.01)


async def partitions(servers: str) -> int:
    """Make the topics and return how many partitions the requests have."""
    settings = Settings()
    await ensure_topics(KafkaConnection(servers), settings)
    return settings.partitions


async def events_of(servers: str, node: str) -> dict[int, list[RequestEvent]]:
    """Return the events of a node by partition, in the order of the log, repetitions too."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[int, list[RequestEvent]] = {}
    try:
        places = [TopicPartition(REQUESTS, n) for n in range(Settings().partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        for place, end in (await consumer.end_offsets(places)).items():
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(place, timeout_ms=500)).values():
                    for record in records:
                        events = decode_record(record.value)
                        assert events
                        assert partition_of((record.key or b"").decode(), len(places)) == place.partition
                        found.setdefault(place.partition, []).extend(
                            e for e in events if e.source.startswith(f"gateway/{node}/")
                        )
    finally:
        await consumer.stop()
    return found


def as_charged(found: dict[int, list[RequestEvent]]) -> list[str]:
    """Return the ids that the worker would charge: numbers at or below the last one are dropped."""
    charged = []
    for partition, events in found.items():
        last: dict[str, int] = {}
        for each in events:
            assert partition_of(each.subject, Settings().partitions) == partition
            number = int(each.sequence or "")
            if number > last.get(each.source, -1):
                last[each.source] = number
                charged.append(each.id)
    return charged


@contextlib.asynccontextmanager
async def worker(servers: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that speaks as the worker does: in transactions."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=f"test-{time.time_ns()}")
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def tell(producer: AIOKafkaProducer, partition: int, *said: Verdict | Progress) -> None:
    for each in said:
        key = each.org.encode() if isinstance(each, Verdict) else PROGRESS_KEY
        await producer.send(VERDICTS, encode(each), key=key, partition=partition)


async def test_published_events_reach_their_partitions_in_order(kafka_servers: str, tmp_path: Path) -> None:
    await partitions(kafka_servers)
    async with Gateway(kafka_url=f"kafka://{kafka_servers}", node="ordered", spool_dir=tmp_path) as gateway:
        ids = await asyncio.gather(*(gateway.publish(request(subject=f"org_{n % 37}")) for n in range(2_000)))
    assert gateway.status().waiting_events == 0
    found = await events_of(kafka_servers, "ordered")
    assert sorted(e.id for events in found.values() for e in events) == sorted(ids)
    assert sorted(as_charged(found)) == sorted(ids)
    assert gateway.status().records_sent < 2_000


@pytest.mark.parametrize("durability", ["fsync", "process"])
async def test_what_publish_returned_survives_sigkill_at_any_moment(
    kafka_servers: str, tmp_path: Path, durability: str
) -> None:
    await partitions(kafka_servers)
    moments = random.Random(durability)
    before = set(as_charged(await events_of(kafka_servers, "killed")))
    returned: list[str] = []
    for kill in range(KILLS + 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.gateway.publisher",
            f"kafka://{kafka_servers}",
            str(tmp_path / "spool"),
            durability,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None and process.stdin is not None
        async with asyncio.timeout(LIMIT_S):
            wanted = moments.randint(1, 500)
            while wanted and (line := await process.stdout.readline()):
                returned.append(line.decode().strip())
                wanted -= 1
            assert wanted == 0, "the publisher ended by itself"
            if kill < KILLS:
                process.kill()
            else:
                process.stdin.close()
            returned += (await process.stdout.read()).decode().split()
            status = await process.wait()
        assert status == (-9 if kill < KILLS else 0)
    charged = as_charged(await events_of(kafka_servers, "killed"))
    assert len(charged) == len(set(charged))
    assert len(returned) == len(set(returned)) > KILLS
    missing = set(returned) - set(charged)
    assert not missing
    # What was stored but not yet reported when the kill came is charged too; nothing else is.
    assert len(set(charged) - before - set(returned)) <= KILLS * 5_000


async def test_an_outage_of_kafka_stops_neither_publishing_nor_admitting(
    fresh_broker: Broker, tmp_path: Path
) -> None:
    servers = fresh_broker.servers
    await partitions(servers)
    async with gateway_on(servers, tmp_path / "spool", stale_after_s=1.0, drain_limit_s=LIMIT_S) as gateway:
        async with worker(servers) as producer, producer.transaction():
            await tell(producer, 0, Verdict("org_1", 5 * NANO_PER_RUPEE, ()))
        await until(lambda: gateway.admit("org_1", "key_1") is None)
        ids = [await gateway.publish(request())]
        await until(lambda: gateway.status().waiting_events == 0)

        await fresh_broker.stop()
        ids += await asyncio.gather(*(gateway.publish(request()) for _ in range(500)))
        await until(lambda: gateway.status().stale)
        assert gateway.admit("org_1", "key_1") is None
        assert gateway.status().waiting_events == 500

        await fresh_broker.start()
        ids += [await gateway.publish(request())]
        await until(lambda: gateway.status().waiting_events == 0)
        await until(lambda: gateway.status().problems == ())
    found = await events_of(servers, "mum-1")
    assert sorted(as_charged(found)) == sorted(ids)


async def test_verdicts_keys_and_progress_reach_admission_and_aborted_ones_do_not(
    kafka_servers: str, tmp_path: Path
) -> None:
    count = await partitions(kafka_servers)
    org = f"org_{tmp_path.name}_{time.time_ns()}"
    home = partition_of(org, count)
    secret = f"br-{org}"
    key = Key(
        key_id="key_1",
        name="n",
        prefix="br-",
        hash=hashlib.sha256(secret.encode()).hexdigest(),
        tier="standard",
        created_ms=0,
    )
    async with (
        worker(kafka_servers) as producer,
        gateway_on(kafka_servers, tmp_path / "spool") as gateway,
    ):

        async def send_key(changed: Key) -> None:
            await producer.send(KEYS, encode_key(org, changed), key=b"key_1", partition=home)

        def refusal() -> Refusal | None:
            return gateway.admit(org, "key_1")

        first = refusal()
        assert first is not None and first.http_status == 402
        assert gateway.authenticate(secret) is None
        async with producer.transaction():
            await tell(producer, home, Verdict(org, 5 * NANO_PER_RUPEE, ()))
            await send_key(key)
        await until(lambda: refusal() is None and gateway.authenticate(secret) is not None)

        await producer.begin_transaction()
        await tell(producer, home, Verdict(org, -1, ()))
        await producer.abort_transaction()
        await _check_reservation(gateway, producer, org, home)

        key.revoked, key.version = True, 2
        async with producer.transaction():
            await send_key(key)
        await until(lambda: (no := refusal()) is not None and no.http_status == 401)
        assert gateway.authenticate(secret) is None

    async with gateway_on(kafka_servers, tmp_path / "spool") as gateway:
        assert gateway.status().ready
        no = gateway.admit(org, "key_1")
        assert no is not None and no.code == "invalid_api_key"


async def _check_reservation(gateway: Gateway, producer: AIOKafkaProducer, org: str, home: int) -> None:
    """A reservation published with an event ends when the worker counts the event, not before."""
    assert gateway.admit(org, "key_1", max_cost_inr="4") is None
    await gateway.publish(request(subject=org))
    await until(lambda: gateway.status().waiting_events == 0)
    assert gateway.admit(org, "key_1", max_cost_inr="2") is not None
    counted_to = max(gateway._admission._sent[home]._sent)[0] + 1
    async with producer.transaction():
        await tell(producer, home, Verdict(org, 3 * NANO_PER_RUPEE, ()), Progress(home, counted_to))
    await until(lambda: gateway.admit(org, "key_1", max_cost_inr="3") is None)
    assert gateway.release(org, "key_1")

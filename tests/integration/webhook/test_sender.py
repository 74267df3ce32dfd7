"""The sender of webhooks on a real broker and a real receiver: at least once, with the same id, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from pipeline import telemetry, topics
from pipeline.accounts.notices import encode_webhook
from pipeline.kafka.admin import ensure_topics
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from pipeline.webhook.sender import WebhookSender
from pipeline.webhook.sending import WebhookClient
from tests.support.webhooks import HOST, MESSAGE, SERVER_SECRET, Receiver, receiver

PROCESS = f"""
import asyncio, ssl, sys, time
from pipeline.settings import Settings
from pipeline.webhook.sender import WebhookSender
from pipeline.webhook.sending import WebhookClient

async def here(host, port):
    return ["127.0.0.1"]

async def main():
    tls = ssl.create_default_context(cafile=sys.argv[1])
    client = WebhookClient({SERVER_SECRET!r}, lambda: int(time.time()), allowed=lambda _: True, resolve=here, tls=tls)
    await WebhookSender(Settings(), client, first_retry_s=0.2).run()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own with the product's topics on it, one partition each; one sender follows another."""
    broker = Broker(tmp_path_factory.mktemp("kafka"), 0)
    asyncio.run(broker.start())
    asyncio.run(ensure_topics(broker.connection, Settings(partitions=1)))
    yield broker.servers
    asyncio.run(broker.stop())


async def _post(servers: str, port: int, *names: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    for name in names:
        message = msgspec.structs.replace(MESSAGE, id=name, url=f"https://{HOST}:{port}/")
        await producer.send_and_wait(topics.WEBHOOKS, encode_webhook(message), key=b"org_1", partition=0)
    await producer.stop()


@asynccontextmanager
async def _running(servers: str, running: Receiver) -> AsyncIterator[None]:
    client = WebhookClient(
        SERVER_SECRET,
        lambda: int(time.time()),
        allowed=lambda _: True,
        resolve=running.resolve,
        tls=running.tls(),
    )
    sender = WebhookSender(Settings(kafka_url=f"kafka://{servers}", partitions=1), client, first_retry_s=0.2)
    task = asyncio.create_task(sender.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _start_process(servers: str, authority: Path) -> asyncio.subprocess.Process:
    environment = {**os.environ, "METERING_KAFKA_URL": f"kafka://{servers}"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, str(authority), env=environment
    )


def _ids(running: Receiver) -> list[str]:
    return [got.headers["webhook-id"] for got in running.got]


async def test_what_is_not_taken_is_tried_again_with_the_same_id_and_body(
    servers: str, tmp_path: Path
) -> None:
    sent = telemetry.NOTICE_WEBHOOKS.labels("sent")._value.get()
    async with receiver(tmp_path) as running, _running(servers, running):
        running.answers = [503, 500, 302]
        await _post(servers, running.port, "first")
        await running.until(4)
        await _post(servers, running.port, "second")
        await running.until(5)
    assert _ids(running) == ["first"] * 4 + ["second"]
    assert len({got.body for got in running.got[:4]}) == 1
    assert telemetry.NOTICE_WEBHOOKS.labels("sent")._value.get() - sent >= 1


async def test_a_sender_killed_with_a_message_in_hand_sends_it_again_and_nothing_that_was_taken(
    servers: str, tmp_path: Path
) -> None:
    async with receiver(tmp_path) as running:
        process = await _start_process(servers, running.authority)
        await _post(servers, running.port, "taken")
        await running.until(1)
        # Done with, durably, once the next one is on its way.
        running.answers = [500, 0]
        await _post(servers, running.port, "in hand")
        await running.until(3)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with _running(servers, running):
            await running.until(4)
            await _post(servers, running.port, "next")
            await running.until(5)
    assert _ids(running) == ["taken", "in hand", "in hand", "in hand", "next"]
    assert running.got[1].headers["webhook-signature"].startswith("v1,")

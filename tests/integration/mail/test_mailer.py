"""The mailer on a real broker and a real mail server: each mail once, or never, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from pipeline import telemetry, topics
from pipeline.accounts.notices import encode_mail
from pipeline.kafka.admin import ensure_topics
from pipeline.local.broker import Broker
from pipeline.mail.mailer import Mailer
from pipeline.settings import Settings
from tests.support.mail import inbox
from tests.support.mails import MAIL

PROCESS = """
import asyncio
from pipeline.mail.mailer import Mailer
from pipeline.settings import Settings
asyncio.run(Mailer(Settings()).run())
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own with the product's topics on it, one partition each.

    The tests share it, as one mailer follows another: each begins where the one before has ended.
    """
    broker = Broker(tmp_path_factory.mktemp("kafka"), 0)
    asyncio.run(broker.start())
    asyncio.run(ensure_topics(broker.connection, Settings(partitions=1)))
    yield broker.servers
    asyncio.run(broker.stop())


def _settings(servers: str, port: int | None) -> Settings:
    return Settings(
        kafka_url=f"kafka://{servers}",
        partitions=1,
        smtp_url=SecretStr(f"smtp://127.0.0.1:{port}") if port is not None else None,
        mail_from="BharatRouter <billing@router.example>",
    )


async def _post(servers: str, *recipients: str, timestamp_ms: int | None = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    for to in recipients:
        mail = msgspec.structs.replace(MAIL, id=f"alert:{to}", to=to)
        await producer.send_and_wait(
            topics.MAIL, encode_mail(mail), key=b"org_1", partition=0, timestamp_ms=timestamp_ms
        )
    await producer.stop()


@asynccontextmanager
async def _running(servers: str, port: int | None) -> AsyncIterator[Mailer]:
    mailer = Mailer(_settings(servers, port), first_retry_s=0.2)
    task = asyncio.create_task(mailer.run())
    try:
        yield mailer
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _start_process(servers: str, port: int) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "METERING_KAFKA_URL": f"kafka://{servers}",
        "METERING_SMTP_URL": f"smtp://127.0.0.1:{port}",
    }
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, env=environment)


def _counted(outcome: str) -> float:
    return float(telemetry.MAIL.labels(outcome)._value.get())


async def test_each_mail_ends_as_its_server_says(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pipeline.mail")
    before = {name: _counted(name) for name in ("sent", "refused", "unclear", "invalid", "expired")}
    async with inbox() as box, _running(servers, box.port):
        await _post(
            servers, "ok@a.example", "later2@a.example", "never@a.example", "cut@a.example", "no address"
        )
        await _post(servers, "old@a.example", timestamp_ms=1_600_000_000_000)
        producer = AIOKafkaProducer(bootstrap_servers=servers)
        await producer.start()
        await producer.send_and_wait(topics.MAIL, b'{"to": "secret@a.example"}', partition=0)
        await producer.stop()
        await _post(servers, "last@a.example")
        await box.until(lambda: {"last@a.example", "later2@a.example"} <= set(box.recipients))
    assert sorted(box.recipients) == ["cut@a.example", "last@a.example", "later2@a.example", "ok@a.example"]
    assert box.tries["later2@a.example"] == 3
    assert box.tries["never@a.example"] == box.tries["cut@a.example"] == 1
    counted = {name: _counted(name) - number for name, number in before.items()}
    assert counted == {"sent": 3, "refused": 1, "unclear": 1, "invalid": 2, "expired": 1}
    said = " ".join(line.getMessage() for line in caplog.records if "alert:" not in line.getMessage())
    assert "@" not in said

    # Whoever comes next sends none of them again.
    async with inbox() as other, _running(servers, other.port):
        await _post(servers, "next@a.example")
        await other.until(lambda: "next@a.example" in other.recipients)
    assert other.recipients == ["next@a.example"]


async def test_a_mail_that_is_out_leaves_no_lag_though_a_marker_follows_it(servers: str) -> None:
    """A worker writes mails in transactions, whose markers take offsets too: a partition that is done would seem to stand."""
    place = {"part": "mail", "topic": topics.MAIL, "partition": "0"}
    async with inbox() as box, _running(servers, box.port):
        producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="test-mails")
        await producer.start()
        async with producer.transaction():
            mail = msgspec.structs.replace(MAIL, id="alert:in", to="in@a.example")
            await producer.send_and_wait(topics.MAIL, encode_mail(mail), key=b"org_1", partition=0)
        await producer.stop()
        await box.until(lambda: box.recipients)
        async with asyncio.timeout(20):
            while telemetry.READING.registry.get_sample_value("metering_lag_offsets", place) != 0:
                await asyncio.sleep(0.05)


async def test_a_mail_that_was_refused_waits_through_a_restart(servers: str) -> None:
    async with _running(servers, 1):  # nobody listens there
        await _post(servers, "ok@a.example")
        async with asyncio.timeout(30):
            while telemetry.MAIL_WAITING.labels(0)._value.get() != 1:
                await asyncio.sleep(0.02)
    async with inbox() as box, _running(servers, box.port):
        await box.until(lambda: box.recipients)
    assert box.recipients == ["ok@a.example"]


async def test_without_a_server_mails_are_counted_and_skipped(
    servers: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = _counted("skipped")
    async with _running(servers, None):
        await _post(servers, "a@a.example", "b@a.example")
        async with asyncio.timeout(30):
            while _counted("skipped") < before + 2:
                await asyncio.sleep(0.02)
    assert sum("METERING_SMTP_URL" in line.getMessage() for line in caplog.records) == 1
    async with inbox() as box, _running(servers, box.port):
        await _post(servers, "next@a.example")
        await box.until(lambda: box.recipients)
    assert box.recipients == ["next@a.example"]


@pytest.mark.parametrize("answers", ["nothing", "until the content"])
async def test_a_mailer_killed_with_a_mail_in_hand_sends_it_at_most_once(servers: str, answers: str) -> None:
    connected, content = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the connection, and with "until the content" the whole mail, but never confirm it."""
        connected.set()
        if answers == "nothing":
            await asyncio.sleep(60)
        writer.write(b"220 mail.example\r\n")
        while line := await reader.readline():
            writer.write(b"354 go on\r\n" if line == b"DATA\r\n" else b"250 fine\r\n")
            if line == b"DATA\r\n":
                await reader.readuntil(b"\r\n.\r\n")
                content.set()
                await asyncio.sleep(60)

    holding = await asyncio.start_server(hold, "127.0.0.1", 0)
    process = await _start_process(servers, holding.sockets[0].getsockname()[1])
    await _post(servers, "first@a.example")
    async with asyncio.timeout(60):
        await (connected if answers == "nothing" else content).wait()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    holding.close()

    async with inbox() as box, _running(servers, box.port):
        await _post(servers, "second@a.example")
        await box.until(lambda: "second@a.example" in box.recipients)
    assert box.recipients == ["second@a.example"]

"""Each role told to stop (SIGTERM) with work under way: it ends by itself in the time that the chart gives it, and says no error.

What comes meanwhile waits for the next process: afterwards all of it is charged once, each mail came once, and the books
agree. The notary is stopped in test_notary_killed.py, which has days for it to sign.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import msgspec
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from pipeline import topics
from pipeline.accounts.notices import encode_mail
from pipeline.api.http.sessions import issue
from pipeline.local.broker import Broker
from tests.support.clickhouse.process import ClickHouse
from tests.support.mail import Inbox, inbox
from tests.support.mails import MAIL
from tests.support.product.apart import Apart
from tests.support.product.processes import SESSION_SECRET, Role, started
from tests.support.product.stopping import STOP_DELAY_S, stopped
from tests.support.product.storm import ORGS, PARTITIONS, SEED, Storm, storming


@dataclass
class Load:
    """What goes on while roles are stopped: events, page requests, and mails for the mailer in the server."""

    storm: Storm
    box: Inbox
    mails: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    failed_at: list[float] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """Have all of it go on beside the test."""
        self.tasks = [asyncio.create_task(each) for each in (self.events(), self.pages(), self.mail())]

    async def end(self) -> None:
        """End it, each after what it is about; raises what one of them failed with."""
        self.ending.set()
        for task in self.tasks:
            await task

    async def events(self) -> None:
        """Publish events, one behind the other."""
        while not self.ending.is_set():
            await self.storm.traffic.publish(400)

    async def pages(self) -> None:
        """Ask for usage, on a connection of its own each time."""
        token = issue(SESSION_SECRET, ORGS[0], "owner", "", int(time.time() * 1000))
        url, signed = f"{self.storm.running.http_url}/me/usage", {"Authorization": f"Bearer {token}"}
        while not self.ending.is_set():
            try:
                async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=20) as client:
                    self.answers[(await client.get(url, headers=signed)).status_code] += 1
            except httpx2.TransportError:
                self.failed_at.append(time.monotonic())
            await asyncio.sleep(0.05)

    async def mail(self) -> None:
        """Write mails, some a second."""
        async with AIOKafkaProducer(bootstrap_servers=self.storm.running.servers) as producer:
            while not self.ending.is_set():
                to = f"reader{self.mails}@x.example"
                value = encode_mail(msgspec.structs.replace(MAIL, id=f"alert:{to}", to=to))
                await producer.send_and_wait(topics.MAIL, value, partition=self.mails % PARTITIONS)
                self.mails += 1
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def load(fresh_broker: Broker, tmp_path: Path) -> AsyncIterator[Load]:
    """Two workers, sink and server apart, with a mail server, and all of the load on them."""
    clickhouse = ClickHouse(tmp_path / "clickhouse", seed=SEED)
    try:
        clickhouse.start()
        async with inbox() as box:
            product = Mailing(fresh_broker, tmp_path, clickhouse=clickhouse, smtp_port=box.port)
            async with (
                started(product, workers=2, partitions=PARTITIONS) as running,
                storming(running, fresh_broker) as storm,
            ):
                going = Load(storm, box)
                going.begin()
                yield going
                await going.end()
    finally:
        clickhouse.kill()


@dataclass(kw_only=True)
class Mailing(Apart):
    """A deployment whose server sends mails."""

    smtp_port: int

    def add_server(self) -> Role:
        """Add the server and the sink, not yet started."""
        server = super().add_server()
        server.environment["METERING_SMTP_URL"] = f"smtp://127.0.0.1:{self.smtp_port}"
        return server


async def test_each_role_ends_in_its_time_with_work_under_way(load: Load) -> None:
    running = load.storm.running
    assert isinstance(running, Apart) and running.server is not None and running.sink is not None
    await asyncio.sleep(3)
    begun, before = time.monotonic(), len(load.storm.traffic.truth.charged)
    took_s: dict[str, float] = {}
    away: list[tuple[float, float]] = []
    for role in (running.workers[0], running.sink, running.server, running.workers[1]):
        charged, told_at = len(load.storm.traffic.truth.charged), time.monotonic()
        took_s[role.name] = await stopped(role)
        # Work came meanwhile, or nothing was shown.
        assert len(load.storm.traffic.truth.charged) > charged
        role.start()
        await running.ready()
        if role is running.server:
            away.append((told_at + STOP_DELAY_S - 0.1, time.monotonic()))
        await asyncio.sleep(2)
    a_second = (len(load.storm.traffic.truth.charged) - before) / (time.monotonic() - begun)
    told = {name: f"{seconds:.1f} s" for name, seconds in took_s.items()}
    print(
        f"{told} at {a_second:.0f} events a second; {load.answers[200]} pages and {load.mails} mails meanwhile"
    )
    cut = [at for at in load.failed_at if not any(begun <= at <= ended for begun, ended in away)]
    assert cut == [], "a server answers until its delay is over, and the others' ends are not felt"
    assert load.answers.keys() == {200}
    await load.end()
    await load.storm.books_agree()
    await load.box.until(lambda: len(load.box.recipients) >= load.mails)
    assert Counter(load.box.recipients) == {f"reader{n}@x.example": 1 for n in range(load.mails)}

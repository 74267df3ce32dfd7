"""A notary that signs no more: first no day is over, then the key of before is gone. Its days are real ones, of this week."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import ist
from pipeline.kafka.admin import ensure_topics
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from tests.support import parts, ports
from tests.support.board.prometheus_server import running_prometheus
from tests.support.builders import NOTARY_KEY
from tests.support.notary import OLD_SECRET, books
from tests.support.notary_topics import say_posted, write_rates, write_rows
from tests.support.product.processes import Role
from tests.support.prometheus import program
from tests.support.runbooks.hands import Hands
from tests.support.runbooks.hurried import SCRAPE, write_hurried_rules
from tests.support.runbooks.paged import Paged

DAYS, DAYS_POSTED = 8, 5
"""The last day of them is yesterday, and so many of them are over at first: the newest signed one is days old."""


@dataclass(frozen=True)
class NotaryAlone:
    """A broker, and the notary apart: all that signing takes."""

    broker: Broker
    notary: Role
    http_url: str = ""

    @property
    def servers(self) -> str:
        """host:port of the broker."""
        return self.broker.servers

    def roles(self) -> list[Role]:
        """Return the one process."""
        return [self.notary]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[NotaryAlone]:
    """A broker with all topics, and a notary that is not started yet."""
    with parts.own_broker() as broker:
        asyncio.run(ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=1)))
        environment = {
            **os.environ,
            "METERING_KAFKA_URL": broker.url,
            "METERING_NOTARY_KEY": OLD_SECRET,
            "METERING_INSTANCE": "notary",
            "METERING_WORKER_PORT": str(ports.free()),
        }
        notary = Role("notary", "notary", environment, tmp_path / "notary.log")
        try:
            yield NotaryAlone(broker, notary)
        finally:
            notary.kill()


def test_a_notary_waits_for_a_worker_and_then_for_the_key_of_before(
    alone: NotaryAlone, tmp_path: Path
) -> None:
    prometheus = program("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus has it)")
    kafka, notary = alone.broker.connection, alone.notary
    first = ist.date_of(ist.day_of(time.time_ns() // 1_000_000) - DAYS)
    made = books(first.isoformat(), DAYS, 6)

    async def fill() -> None:
        await write_rates(kafka)
        await write_rows(kafka, 0, made.rows)
        await say_posted(kafka, made.days[DAYS_POSTED], [6 * (DAYS_POSTED + 1) + 1])

    asyncio.run(fill())
    notary.start()
    rules = write_hurried_rules(tmp_path, hours_stay=True)
    targets = {"notary": [notary.status_url.removeprefix("http://")]}
    with running_prometheus(prometheus, tmp_path, targets, rules=rules, interval=SCRAPE) as watching:
        walk = Paged(prometheus=watching, hands=Hands(alone, notary.environment, tmp_path))
        walk.fires("MeteringNotaryStands")
        signed = f"signed {ist.date_of(made.days[DAYS_POSTED])}"
        # Nothing in the log but the days before: a partition without a worker posts nothing, so no day is over there.
        assert signed in notary.words() and "ERROR" not in notary.words()
        # Whoever starts it again gives it a new key, and not the one of before.
        notary.kill()
        notary.environment["METERING_NOTARY_KEY"] = NOTARY_KEY
        notary.start()
        asyncio.run(say_posted(kafka, made.days[-1], [len(made.rows) + 1]))
        walk.until(
            lambda: "which METERING_NOTARY_KEY does not have" in notary.words(),
            "it says that a key is missing",
        )
        assert "MeteringNotaryStands" in walk.firing()
        notary.kill()
        notary.environment["METERING_NOTARY_KEY"] = f"{NOTARY_KEY},{OLD_SECRET}"
        notary.start()
        walk.over("MeteringNotaryStands")
        assert f"signed {ist.date_of(made.days[-1])}" in notary.words()

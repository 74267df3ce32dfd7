"""What tests share: real brokers, one for the session and fresh ones.

`kafka_servers` is one broker for the whole session; `fresh_broker` is one of a test's own, for what needs
empty topics. METERING_TEST_KAFKA_URL makes the session use a broker that is there already.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.broker import Broker

_GIVEN = "METERING_TEST_KAFKA_URL"


def pytest_report_header() -> str:
    """Say which Kafka the session uses."""
    return f"kafka: {os.environ.get(_GIVEN, 'a local broker of the session')}"


@pytest.fixture(autouse=True)
def _settings_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith("METERING_") and not name.startswith("METERING_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """host:port of the session's broker. Topics on it are shared: use `fresh_broker` for empty ones."""
    given = os.environ.get(_GIVEN)
    if given:
        yield given.removeprefix("kafka://")
        return
    with _RunningBroker() as broker:
        yield broker.servers


@pytest.fixture
def fresh_broker() -> Iterator[Broker]:
    """A running broker of the test's own, with nothing on it; it may be stopped and started again."""
    with _RunningBroker() as broker:
        yield broker


class _RunningBroker:
    """A broker in a directory of its own, stopped and removed at the end."""

    def __enter__(self) -> Broker:
        self._home = Path(tempfile.mkdtemp(prefix="metering-kafka-"))
        self._broker = Broker(self._home, 0)
        asyncio.run(self._broker.start())
        return self._broker

    def __exit__(self, *_: object) -> None:
        asyncio.run(self._broker.stop())
        shutil.rmtree(self._home, ignore_errors=True)

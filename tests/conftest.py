"""What tests share: real brokers, one for the session and fresh ones; tests/support/parts.py chooses them.

`kafka_servers` is one broker for the whole session; `fresh_broker` is one of a test's own, for what needs
empty topics. Tests over real parts run in lanes side by side: tests/support/lanes.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from pipeline.local.broker import Broker
from tests.support import lanes, parts

# How long anything takes says something of the machine, and fails no test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring what takes long to the front."""
    items.sort(key=lanes.rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> lanes.Lanes | None:
    """Share tests out to lanes where whole files are shared out."""
    return lanes.Lanes(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_report_header() -> str:
    """Say which Kafka and ClickHouse the session uses."""
    return f"parts: {parts.chosen()}"


@pytest.fixture(autouse=True)
def _settings_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith("METERING_") and not name.startswith("METERING_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """host:port of the session's broker. Topics on it are shared: use `fresh_broker` for empty ones."""
    with parts.kafka() as servers:
        yield servers


@pytest.fixture
def fresh_broker() -> Iterator[Broker]:
    """A running broker of the test's own, with nothing on it; it may be stopped and started again."""
    with parts.own_broker() as broker:
        yield broker

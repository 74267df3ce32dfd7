"""Which deployment a command works with: the running `up`, or the one the environment names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.cli.context import running_on, settings_for
from pipeline.connection import KafkaSecurity
from pipeline.local import deployment
from pipeline.local.deployment import Deployment


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory with an `up` on it: this process."""
    at = Deployment(
        pid=os.getpid(),
        kafka_url="kafka://127.0.0.1:9999",
        clickhouse_url="chdb:///data/clickhouse",
        http_url="http://127.0.0.1:8000",
        worker_url="http://127.0.0.1:8001",
        deployment="blue",
        partitions=7,
        session_secret="session",
        operator_token="operator",
        command_key="command-key",
        kafka_security=KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "metering", "hush"),
    )
    async with deployment.claimed(tmp_path):
        deployment.announce(tmp_path, at)
        yield tmp_path


async def test_a_running_up_is_used_with_nothing_else_set(home: Path) -> None:
    settings = settings_for(home)
    assert settings.kafka_url == "kafka://127.0.0.1:9999"
    assert settings.clickhouse_url == "chdb:///data/clickhouse"
    assert (settings.deployment, settings.partitions) == ("blue", 7)
    assert settings.session_secret is not None
    assert settings.session_secret.get_secret_value() == "session"
    assert settings.operator_token is not None
    assert settings.operator_token.get_secret_value() == "operator"
    assert settings.kafka_security == KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "metering", "hush")


async def test_the_same_url_in_the_environment_means_the_running_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERING_KAFKA_URL", "kafka://127.0.0.1:9999")
    assert running_on(home) is not None


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("METERING_KAFKA_URL", "kafka://elsewhere:9092"),
        ("METERING_CLICKHOUSE_URL", "http://elsewhere:8123/db"),
    ],
)
async def test_another_url_in_the_environment_means_another_deployment(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, url)
    assert running_on(home) is None
    settings = settings_for(home)
    assert url in (settings.kafka_url, settings.clickhouse_url)
    assert settings.session_secret is None


def test_without_an_up_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_KAFKA_URL", "kafka://k:1")
    assert settings_for(tmp_path).kafka_url == "kafka://k:1"

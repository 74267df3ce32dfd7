"""A proxy's settings are read from the environment, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.gateway.proxying.settings import HOLD_TOKENS, ProxySettings, ProxySettingsError

GIVEN = {
    "METERING_KAFKA_URL": "kafka://k:9092",
    "METERING_NODE": "mum-1",
    "METERING_SPOOL_DIR": "/spool",
}


def test_three_variables_are_enough() -> None:
    settings = ProxySettings.of_environment(GIVEN)
    assert settings == ProxySettings("kafka://k:9092", "mum-1", Path("/spool"), "open", HOLD_TOKENS)


def test_the_others_may_be_given() -> None:
    settings = ProxySettings.of_environment(
        {**GIVEN, "METERING_WHEN_STALE": "closed", "METERING_HOLD_TOKENS": "0"}
    )
    assert (settings.when_stale, settings.hold_tokens) == ("closed", 0)


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_missing_is_named_with_an_example(name: str) -> None:
    for environment in ({**GIVEN, name: ""}, {k: v for k, v in GIVEN.items() if k != name}):
        with pytest.raises(ProxySettingsError, match=f"{name} must be set, for example {name}=."):
            ProxySettings.of_environment(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METERING_WHEN_STALE", "ajar"),
        ("METERING_HOLD_TOKENS", "-1"),
        ("METERING_HOLD_TOKENS", "1e3"),
        ("METERING_HOLD_TOKENS", "१०"),
        ("METERING_HOLD_TOKENS", "9" * 30),
    ],
)
def test_what_is_no_use_is_named(name: str, value: str) -> None:
    with pytest.raises(ProxySettingsError, match=name):
        ProxySettings.of_environment({**GIVEN, name: value})

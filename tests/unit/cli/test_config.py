"""`metering config`, and how every command shows bad settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.cli import main as program
from pipeline.cli.config import shown, unknown
from pipeline.settings import Settings


def _run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["metering", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_secrets_are_masked_wherever_they_stand() -> None:
    said = shown(
        Settings(
            clickhouse_url="https://reader:hush@db.example:8443/metering",
            smtp_url=SecretStr("smtp://user:hush@mail.example:25"),
            session_secret=SecretStr("hush" * 8),
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="PLAIN",
            kafka_username="worker",
            kafka_password=SecretStr("hush"),
            razorpay_key_id="rzp_live_1",
        )
    )
    assert "hush" not in json.dumps(said)
    assert said["METERING_CLICKHOUSE_URL"] == "https://reader:**********@db.example:8443/metering"
    assert said["METERING_RAZORPAY_KEY_ID"] == "rzp_live_1"
    assert (said["METERING_KAFKA_USERNAME"], said["METERING_KAFKA_PASSWORD"]) == ("worker", "**********")
    assert said["METERING_SMTP_URL"] == "**********"
    assert said["METERING_OPERATOR_TOKEN"] is None


def test_the_settings_in_force_are_json_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METERING_PARTITIONS", "12")
    monkeypatch.setenv("METERING_PARTITION", "12")
    assert _run("config", "--data-dir", str(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["METERING_PARTITIONS"] == 12
    assert err == "METERING_PARTITION is not a setting and has no effect\n"


@pytest.mark.parametrize("command", ["config", "up", "topics", "worker"])
def test_a_bad_setting_is_named_without_its_value(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METERING_CLICKHOUSE_URL", "db://user:hush@db.example")
    monkeypatch.setenv("METERING_PORT", "eight")
    assert _run(command, "--data-dir", str(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "METERING_CLICKHOUSE_URL: must look like chdb://PATH" in err
    assert "METERING_PORT: should be a valid integer" in err
    assert "hush" not in err


def test_kafka_settings_that_do_not_fit_together_are_named_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METERING_KAFKA_PASSWORD", "hush")
    assert _run("topics", "--data-dir", str(tmp_path)) == 1
    assert capsys.readouterr().err == (
        "METERING_KAFKA_PASSWORD: has no effect while METERING_KAFKA_SECURITY_PROTOCOL is PLAINTEXT: set that to "
        "SASL_SSL or SASL_PLAINTEXT, or leave this out\n"
    )


def test_a_missing_setting_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("topics", "--data-dir", str(tmp_path)) == 1
    assert capsys.readouterr().err == "METERING_KAFKA_URL is not set\n"


@pytest.mark.parametrize("arguments", [("nonsense",), ("up", "--port", "70000"), ("up", "--colour")])
def test_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    assert _run(*arguments) == 2


def test_what_only_looks_like_a_setting_is_told() -> None:
    assert unknown([*os.environ, "METERING_KAFKA_URI", "METERING_PORT", "PATH"]) == ["METERING_KAFKA_URI"]

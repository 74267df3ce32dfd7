"""What ClickHouse's refusals say to set: one line each, and none where a server is merely away."""

from __future__ import annotations

import ssl

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from pipeline.clickhouse.errors import EngineError, EngineUnavailable, engine_failure
from pipeline.clickhouse.refused import Asked, what_to_set

DENIED = "Code: 497. DB::Exception: sink: Not enough privileges. To execute this query, it's necessary to have the grant"
ASKED = Asked("ch.example:8443", "sink")


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        (
            f"{DENIED} INSERT(id, org) ON metering.events. (ACCESS_DENIED) (version 26.9.1.1)",
            "lacks the grant INSERT(id, org) ON metering.events at ch.example:8443",
        ),
        (
            f"{DENIED} CREATE DATABASE ON metering.*. (ACCESS_DENIED)",
            "lacks the grant CREATE DATABASE ON metering.* at",
        ),
        ("Code: 497. said otherwise", "lacks a grant at"),
    ],
)
def test_a_grant_that_is_lacking_is_named(text: str, lacks: str) -> None:
    failure = engine_failure(DatabaseError(f"Received ClickHouse exception,\n{text}", code=497), ASKED)
    assert isinstance(failure, EngineError)
    assert failure.needs_operator
    assert lacks in str(failure)
    assert "METERING_CLICKHOUSE_URL: the user 'sink'" in str(failure)
    assert "\n" not in str(failure)


@pytest.mark.parametrize("code", [192, 193, 194, 516])
def test_a_password_or_user_that_is_not_taken_may_be_set_right_meanwhile(code: int) -> None:
    failure = engine_failure(DatabaseError("Code: 516. Authentication failed", code=code), ASKED)
    assert isinstance(failure, EngineUnavailable)
    assert failure.needs_operator
    assert str(failure).startswith(
        "METERING_CLICKHOUSE_URL: ch.example:8443 does not take its user and password"
    )


def test_a_profile_that_is_too_strict_is_named() -> None:
    said = what_to_set(DatabaseError("Cannot modify setting in readonly mode", code=164), ASKED)
    assert said is not None and "`readonly` 2 for a server" in said


def _behind(error: Exception) -> OperationalError:
    """Return the driver's error with another behind it, as urllib3's errors are."""
    raised = OperationalError("Error executing HTTP request")
    raised.__cause__ = error
    return raised


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("WRONG_VERSION_NUMBER", "begins with https://, but ch.example:8443 does not speak TLS"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "METERING_CLICKHOUSE_CERT_FILE: ch.example:8443"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "METERING_CLICKHOUSE_CERT_FILE: ch.example:8443"),
        ("UNEXPECTED_EOF_WHILE_READING", None),
    ],
)
def test_an_error_of_tls_is_told_apart(reason: str, says: str | None) -> None:
    of_tls = ssl.SSLError(1, reason)
    of_tls.reason = reason
    said = what_to_set(_behind(of_tls), ASKED)
    assert said is None if says is None else says in (said or "")


def test_a_server_that_is_away_or_refuses_a_statement_says_nothing_of_settings() -> None:
    assert what_to_set(_behind(ConnectionRefusedError(111, "Connection refused")), ASKED) is None
    assert what_to_set(DatabaseError("Unknown table", code=60), ASKED) is None
    failure = engine_failure(DatabaseError("Unknown table", code=60), ASKED)
    assert not failure.needs_operator


def test_a_server_that_is_away_is_named_in_one_line_and_may_come_back() -> None:
    failure = engine_failure(_behind(ConnectionRefusedError(111, "Connection refused")), ASKED)
    assert isinstance(failure, EngineUnavailable)
    assert not failure.needs_operator
    assert (
        str(failure)
        == "ch.example:8443 does not answer (Connection refused); METERING_CLICKHOUSE_URL names it"
    )


def test_a_server_that_hangs_up_may_be_stopped_or_want_a_certificate() -> None:
    failure = engine_failure(_behind(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")), ASKED)
    assert isinstance(failure, EngineUnavailable)
    assert not failure.needs_operator
    assert "METERING_CLICKHOUSE_CERT_FILE" in str(failure)

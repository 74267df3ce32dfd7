"""ClickHouse behind TLS, with a password and grants: what is wrong is one line that says what to set."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.api.routes.health import engine_check
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.settings import SinkSettings
from pipeline.sink.sink import Sink
from pipeline.tls import TlsFiles
from tests.support.clickhouse.front import http_front, serving
from tests.support.clickhouse.secured import PASSWORD, USER, SecuredFront
from tests.support.secured.certificates import Authority

SIGNED_IN = f"{USER}:{PASSWORD.replace('@', '%40')}@"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of the test's own."""
    return Authority(tmp_path)


@pytest.fixture
def trusting(authority: Authority) -> TlsFiles:
    """The files of a client that believes it."""
    return TlsFiles("METERING_CLICKHOUSE_", str(authority.file))


@pytest.fixture
def front(engine_home: str, authority: Authority) -> Iterator[SecuredFront]:
    """A server with a good certificate."""
    with serving(SecuredFront(engine_home, authority.issue("server"))) as running:
        yield running


def _url(front: SecuredFront, database: str = "default", signed_in: str = SIGNED_IN) -> str:
    return f"https://{signed_in}127.0.0.1:{front.server_port}/{database}"


@contextmanager
def _opened(url: str, tls: TlsFiles) -> Iterator[Engine]:
    engine = open_engine(url, tls)
    yield engine
    engine.close()


def _said(url: str, tls: TlsFiles) -> str:
    """Return what a client says that gets no answer for a reason that an operator can mend."""
    with _opened(url, tls) as engine, pytest.raises(EngineUnavailable) as failure:
        engine.query("SELECT 1", row=tuple[int])
    assert failure.value.needs_operator, failure.value
    assert "\n" not in str(failure.value)
    assert PASSWORD not in str(failure.value)
    return str(failure.value)


def test_every_lane_speaks_tls_and_the_schema_is_made(
    front: SecuredFront, trusting: TlsFiles, empty_engine: Engine
) -> None:
    with _opened(_url(front, empty_engine.database), trusting) as engine:
        assert len(migrate(engine)) > 1
        assert migrate(engine) == []
        assert engine.query("SELECT 1", row=tuple[int], settings={"max_execution_time": 600}) == [(1,)]
        engine.ping()


def test_a_certificate_that_is_not_believed_says_why(
    engine_home: str, front: SecuredFront, authority: Authority, trusting: TlsFiles, tmp_path: Path
) -> None:
    stranger = replace(trusting, ca_file=str(Authority(tmp_path, "stranger").file))
    assert _said(_url(front), stranger).startswith(
        "METERING_CLICKHOUSE_CA_FILE: the certificate of 127.0.0.1:"
    )
    assert "METERING_CLICKHOUSE_CA_FILE" in _said(_url(front), replace(trusting, ca_file=None))
    expired = authority.issue("expired", valid_days=(-2, -1))
    with serving(SecuredFront(engine_home, expired)) as old:
        assert "has expired: it needs a new one" in _said(_url(old), trusting)
    with serving(SecuredFront(engine_home, authority.issue("other", address="10.1.2.3"))) as other:
        assert _said(_url(other), trusting).startswith(
            "METERING_CLICKHOUSE_URL: the certificate of 127.0.0.1:"
        )


def test_a_server_that_asks_for_a_certificate_takes_it_for_a_password_too(
    engine_home: str, authority: Authority, trusting: TlsFiles
) -> None:
    ours = authority.issue("ours")
    showing = replace(trusting, cert_file=str(ours.certificate), key_file=str(ours.key))
    with serving(SecuredFront(engine_home, authority.issue("server"), authority)) as asking:
        for signed_in in (SIGNED_IN, f"{USER}@"):
            with _opened(_url(asking, signed_in=signed_in), showing) as engine:
                assert engine.query("SELECT 1", row=tuple[int]) == [(1,)]
        # The server says why it hangs up, or its hanging up comes first.
        with _opened(_url(asking), trusting) as engine, pytest.raises(EngineUnavailable, match="_CERT_FILE"):
            engine.query("SELECT 1", row=tuple[int])


def test_a_port_without_tls_is_named(engine_home: str, trusting: TlsFiles) -> None:
    with http_front(engine_home) as plain:
        url = f"https://{SIGNED_IN}127.0.0.1:{plain.server_port}/default"
        assert "METERING_CLICKHOUSE_URL begins with https://" in _said(url, trusting)


async def test_a_wrong_password_keeps_the_check_from_being_ready_and_is_told_once(
    front: SecuredFront, trusting: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    with _opened(_url(front, signed_in=f"{USER}:another@"), trusting) as engine:
        check = engine_check(engine)
        said = [await check() for _ in range(3)]
    assert said[0] is not None and said[0].startswith("METERING_CLICKHOUSE_URL: 127.0.0.1:")
    assert "another" not in said[0].replace("password is another", "")
    assert said == [said[0]] * 3
    told = [record for record in caplog.records if record.name == "pipeline.api.routes.health"]
    assert [(record.levelno, said[0] in record.getMessage()) for record in told] == [(logging.ERROR, True)]


async def test_a_sink_that_lacks_a_grant_waits_says_so_once_and_goes_on_when_it_has_it(
    front: SecuredFront, trusting: TlsFiles, empty_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    front.lacks = ("CREATE DATABASE ON metering.*", "CREATE DATABASE")
    with _opened(_url(front, empty_engine.database), trusting) as engine:
        with pytest.raises(EngineError, match="run `metering migrate` as a user who may change it"):
            migrate(engine)
        sink = Sink(SinkSettings(kafka_url="kafka://127.0.0.1:1"), engine)
        waiting = asyncio.create_task(sink._migrate())
        async with asyncio.timeout(30):
            while "lacks the grant CREATE DATABASE ON metering.* at 127.0.0.1" not in (sink.problem or ""):
                await asyncio.sleep(0.05)
            asked = len(front.seen)
            while len(front.seen) < asked + 2:
                await asyncio.sleep(0.05)
        assert "lacks the grant" in (sink.problem or "")
        front.lacks = None
        await asyncio.wait_for(waiting, 30)
        assert "grant" not in (sink.problem or "")
    told = [record for record in caplog.records if record.name == "pipeline.sink.sink"]
    assert [record.levelno for record in told] == [logging.ERROR]


def test_a_command_that_is_refused_ends_with_one_line(front: SecuredFront, authority: Authority) -> None:
    right = {
        "METERING_CLICKHOUSE_URL": _url(front),
        "METERING_CLICKHOUSE_CA_FILE": str(authority.file),
    }
    front.lacks = ("CREATE TABLE ON default.schema_versions", r"\s*CREATE TABLE")
    for change, says in (
        (
            {"METERING_CLICKHOUSE_URL": _url(front, signed_in=f"{USER}:x@")},
            "does not take its user and password",
        ),
        ({"METERING_CLICKHOUSE_CA_FILE": ""}, "is of no authority in that file"),
        (
            {"METERING_CLICKHOUSE_CA_FILE": "/absent.pem"},
            "METERING_CLICKHOUSE_CA_FILE: /absent.pem cannot be used",
        ),
        ({}, "lacks the grant CREATE TABLE ON default.schema_versions"),
    ):
        given = {name: value for name, value in {**right, **change}.items() if value}
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "migrate"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert says in done.stderr

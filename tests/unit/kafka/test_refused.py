"""What brokers refuse is one line that says what to set; what is merely away says who was asked."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from aiokafka import errors

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_admin
from pipeline.kafka.refused import KafkaAwayError, in_one_line
from pipeline.kafka.sessions import write_session
from pipeline.session_book import ended_org


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (errors.TopicAuthorizationFailedError({"metering.b", "metering.a"}), "metering.a, metering.b"),
        (errors.GroupAuthorizationFailedError("metering-worker"), "group metering-worker"),
        (errors.TransactionalIdAuthorizationFailed("metering-0"), "transactional id: metering-0"),
        (errors.ClusterAuthorizationFailedError(), "cluster"),
        (errors.MessageSizeTooLargeError(), "max.message.bytes"),
    ],
)
def test_an_error_that_a_person_has_to_mend_is_one_line(error: Exception, named: str) -> None:
    line = in_one_line(error)
    assert line is not None
    assert named in line
    assert "\n" not in line
    assert "`metering topics" in line


def test_what_mends_itself_or_is_a_mistake_of_ours_is_not_put_so() -> None:
    for error in (errors.NotLeaderForPartitionError(), errors.KafkaTimeoutError(), ValueError("x")):
        assert in_one_line(error) is None


async def test_a_broker_that_is_away_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(KafkaAwayError, match=address) as raised:
            async with started_admin(KafkaConnection(address)):
                pass
    assert "METERING_KAFKA_URL" in (in_one_line(raised.value) or "")


async def test_a_port_that_closes_at_once_may_want_another_protocol() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(KafkaAwayError, match="METERING_KAFKA_SECURITY_PROTOCOL is not PLAINTEXT"):
            async with started_admin(KafkaConnection(address)):
                pass


async def test_a_producer_that_finds_no_broker_leaves_nothing_open(caplog: pytest.LogCaptureFixture) -> None:
    """Else asyncio would say so, as an error of its own, beside the one line that helps."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kafka = KafkaConnection(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(KafkaAwayError):
            await write_session(kafka, ended_org("org", 1))
    gc.collect()
    assert "Unclosed" not in caplog.text

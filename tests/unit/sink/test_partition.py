"""What a partition of the sink says about an engine that does not do what it is asked."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from pipeline import telemetry
from pipeline.clickhouse.client import Engine, EngineError, EngineUnavailable
from pipeline.connection import KafkaConnection
from pipeline.journal import JournalRecord
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.steps import MayHaveLost, NotConfirmedError, Pause


class Refusing:
    """Answers whatever it is asked with an error."""

    def __init__(self, error: Exception) -> None:
        """Prepare."""
        self.error = error

    async def writing(self, *_: Any) -> None:
        """Raise the error."""
        raise self.error


@pytest.mark.parametrize(
    ("error", "is_refusal", "level", "told"),
    [
        (
            EngineError("no grant", 497),
            True,
            logging.ERROR,
            "partition 2: ClickHouse refuses for certain: no grant",
        ),
        (EngineUnavailable("no answer"), False, logging.WARNING, "partition 2: no answer"),
    ],
)
async def test_a_refusal_for_certain_is_told_loudly_and_an_unclear_answer_is_not(
    error: Exception, is_refusal: bool, level: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = cast("Engine", Refusing(error))
    sink = SinkPartition(KafkaConnection("k:1"), "metering", 2, engine, ByteBudget(1), lambda: 0.0)
    with pytest.raises(NotConfirmedError) as raised:
        await sink._take(MayHaveLost(1))
    assert raised.value.is_refusal is is_refusal
    before = telemetry.SINK_REFUSALS._value.get()
    await sink._take(Pause(0, str(raised.value), raised.value.is_refusal))
    assert telemetry.SINK_REFUSALS._value.get() - before == is_refusal
    assert sink.problem == told
    assert [record.levelno for record in caplog.records] == [level]
    assert told in caplog.text


async def test_the_oldest_record_that_is_not_written_says_since_when_rows_wait() -> None:
    engine = cast("Engine", Refusing(EngineUnavailable("no answer")))
    sink = SinkPartition(KafkaConnection("k:1"), "metering", 2, engine, ByteBudget(1), lambda: 0.0)
    assert sink.waiting_since_ms is None
    record = JournalRecord("requests", 0, 0, b"")
    sink._buffer.extend([(7, record, 1_000), (8, record, 2_000)])
    assert sink.waiting_since_ms == 1_000
    sink._next_records()
    assert sink.waiting_since_ms == 1_000
    sink._buffer.append((9, record, 3_000))
    assert sink.waiting_since_ms == 1_000

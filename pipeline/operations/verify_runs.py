"""What the last `metering verify` came to, for Prometheus: the command has long ended when Prometheus asks.

Owns: the record `verified` of `metering.state.verify`, and reading it into the server's metrics again and again.
Called by: `operations/checkpoints.py` writes it; `api/server/main.py` and `status/brokers.py` read it.

A run that breaks off leaves no record: then the age of the last one that ended says so.
"""

from __future__ import annotations

import msgspec
from aiokafka import TopicPartition
from msgspec import Struct

from pipeline import telemetry, topics
from pipeline.connection import KafkaConnection
from pipeline.formats import CHECKPOINTS
from pipeline.kafka.attempts import keep_looking
from pipeline.kafka.bounded import last_of_key

RUN_KEY = b"verified"
PLACE = TopicPartition(topics.VERIFY_STATE, 0)
"""A run keeps its record last, so that it is found at the end of the partition."""
LOOK_EVERY_S = 15.0


class VerifyRun(Struct, frozen=True):
    """A run that came to its end: when, in milliseconds since 1970, and how many differences it found."""

    format: int
    ended_ms: int
    differences: int
    full: bool


_decode = msgspec.msgpack.Decoder(VerifyRun).decode


def encode_run(ended_ms: int, differences: int, *, full: bool) -> bytes:
    """Return the record of a run."""
    return msgspec.msgpack.encode(VerifyRun(CHECKPOINTS.number, ended_ms, differences, full))


def run_of(value: bytes | None) -> VerifyRun | None:
    """Return the run of a record, None where there is none, or one of another release's format."""
    if value is None:
        return None
    try:
        run = _decode(value)
    except msgspec.MsgspecError:
        return None
    return run if run.format == CHECKPOINTS.number else None


class VerifyWatch:
    """Shows the last run in the metrics."""

    def __init__(self, kafka: KafkaConnection, every_s: float = LOOK_EVERY_S) -> None:
        """Prepare to look every so many seconds; nothing is connected before `run`."""
        self._kafka, self._every_s = kafka, every_s

    async def run(self) -> None:
        """Look until cancelled. Without Kafka, what was seen last is shown."""
        unknown = "the last run of `metering verify` cannot be looked for"
        await keep_looking(self._look, "looking for the last verify", unknown, self._every_s)

    async def _look(self) -> None:
        show(run_of(await last_of_key(self._kafka, PLACE, RUN_KEY)))


def show(run: VerifyRun | None) -> None:
    """Set the gauges to what a run came to."""
    telemetry.VERIFIED.set(0 if run is None else run.ended_ms / 1000)
    telemetry.VERIFY_DIFFERENCES.set(0 if run is None else run.differences)

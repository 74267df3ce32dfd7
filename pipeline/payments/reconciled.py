"""How far `metering reconcile` has come: which payments were seen to match, and need not be compared again.

Owns: its record in `metering.state.verify`, and from when on payments are read by it.
Called by: `payments/reconcile.py`.

What becomes of a payment after LOOK_BACK_S of its making is a refund or a dispute: these are looked for by their own
date, and so are the ledger's entries. What has another way is found by `metering reconcile --full`, which reads all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.formats import CHECKPOINTS, NewerFormatError
from pipeline.kafka.clients import started_producer
from pipeline.kafka.fenced import read_compacted
from pipeline.payments.matching import Mismatch

log = logging.getLogger(__name__)

KEY = b"reconciled"
PLACE = TopicPartition(topics.VERIFY_STATE, 0)
LOOK_BACK_S = 35 * 86_400
NAMED_MAX = 1_000
"""Where more payments than this do not match, something is wrong as a whole, and the next run begins where this one did."""


class Reconciled(Struct, frozen=True, tag_field="format", tag=CHECKPOINTS.number):
    """All payments made before `through_s`, in seconds since 1970, were seen to match, but those `named` by their ids."""

    through_s: int
    named: tuple[str, ...]

    @property
    def since_s(self) -> int:
        """From when on payments, refunds, disputes and entries are read again."""
        return max(0, self.through_s - LOOK_BACK_S)


encode = msgspec.json.Encoder().encode
_decode = CHECKPOINTS.decoder(Reconciled)


def reconciled(began_s: int, mismatches: Iterable[Mismatch]) -> Reconciled | None:
    """Return what is to be kept of a comparison that began at an instant; None where too much does not match."""
    named = tuple(sorted({mismatch.payment_id for mismatch in mismatches}))
    return None if len(named) > NAMED_MAX else Reconciled(began_s, named)


def decode(value: bytes) -> Reconciled | None:
    """Return what a record says, None where it is of another format or none: then all payments are read."""
    try:
        return _decode(value)
    except (NewerFormatError, msgspec.MsgspecError):
        return None


async def read(kafka: KafkaConnection) -> Reconciled | None:
    """Return what was kept last, None where nothing is of use. Raises what Kafka raises."""
    value = (await read_compacted(kafka, PLACE)).get(KEY)
    return None if value is None else decode(value)


async def keep(kafka: KafkaConnection, done: Reconciled) -> None:
    """Keep how far a comparison came. Where that cannot be written, the next one reads more, which is told."""
    try:
        async with started_producer(kafka) as writer:
            await writer.send_and_wait(PLACE.topic, encode(done), key=KEY, partition=PLACE.partition)
    except KafkaError as error:
        log.warning(
            "how far payments were compared is not kept, so the next comparison reads more: %r", error
        )

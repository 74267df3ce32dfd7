"""What a gateway follows: verdicts, how far they count, and keys, from the beginning and then as they come.

Owns: what each record of those topics means to the gateway's memory.
Called by: `gateway/gateway.py`. Next: `gateway/admission/admission.py` takes in what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.accounts.keys import decode_key
from pipeline.accounts.verdicts import PROGRESS_KEY, Verdict, decode_record
from pipeline.connection import KafkaConnection
from pipeline.gateway.admission.admission import Admission
from pipeline.kafka.follow import Subscription, TopicFollower
from pipeline.topics import KEYS, VERDICTS

CONFIRM_EVERY_S = 1.0
FETCH_BYTES = 512 * 1024
FETCH_WAIT_MS = 20
"""A partition that has just been read waits for the fetch under way before it is fetched again: verdicts
there are late by up to this."""


def verdict_follower(
    kafka: KafkaConnection, options: Mapping[str, Any], admission: Admission
) -> TopicFollower:
    """Return the follower that keeps an `Admission` up to date; `options` are aiokafka's and win."""

    def put_verdict(key: bytes, value: bytes) -> None:
        said = decode_record(key, value)
        if isinstance(said, Verdict):
            admission.take_verdict(said)
        else:
            admission.take_progress(said)

    def delete_verdict(key: bytes) -> None:
        if key != PROGRESS_KEY:
            admission.forget_verdict(key.decode())

    return TopicFollower(
        kafka,
        [
            Subscription(VERDICTS, put_verdict, delete_verdict),
            Subscription(
                KEYS,
                put=lambda _key, value: admission.take_key(decode_key(value)),
                delete=lambda key: admission.forget_key(key.decode()),
            ),
        ],
        confirm_every_s=CONFIRM_EVERY_S,
        confirmed=admission.caught_up,
        **{"fetch_max_wait_ms": FETCH_WAIT_MS, "max_partition_fetch_bytes": FETCH_BYTES, **options},
    )

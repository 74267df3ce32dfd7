"""Answers that are kept for the repetition of their commands: each for 24 hours, whatever comes between.

Owns: the records of them in the state topic, how long and how many are kept, and the refusal of new ones.
Called by: `posting/state.py` restores them. A unit (`posting/unit.py`) has them written and deleted.

An answer that was promised for 24 hours is never let go of earlier. What is bounded is how many are begun: an org has
so many in 24 hours, and a partition so many bytes in memory. Beyond that a new key is refused, and the old ones hold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from pipeline.accounts.commands import CommandRefusal
from pipeline.accounts.model import RememberedAnswer
from pipeline.ist import DAY_MS
from pipeline.outcomes import RefusalCode

MARK = b"k"
"""The first byte of the key of an answer's record: then come the org, a zero byte and the command's id."""
KEPT_MS = DAY_MS
ANSWERS_AN_ORG = 500
BYTES_MAX = 16 * 1024 * 1024
"""Of all answers of a partition: some 25,000 of them."""
OVERHEAD_BYTES = 400
"""What an answer takes in memory beside its own bytes."""


class StoredAnswer(Struct, array_like=True, frozen=True, gc=False):
    """An answer in its record's value: when it was given, to what, and the result in JSON."""

    at_ms: int
    fingerprint: str
    result: bytes


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(StoredAnswer).decode


class KeyedAnswers:
    """The answers of one partition, oldest first."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._times_of_org: dict[bytes, dict[bytes, int]] = {}
        self._bytes = 0

    @classmethod
    def restored(cls, records: Iterable[tuple[bytes, bytes]]) -> KeyedAnswers:
        """Return the answers of the records with MARK."""
        answers = cls()
        for key, value in sorted(records, key=lambda record: (_unpack(record[1]).at_ms, record[0])):
            answers._take(key, value)
        return answers

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def records(self) -> dict[bytes, bytes]:
        """Return the records of all of them."""
        return dict(self._kept)

    def find(self, org: str, command_id: str) -> RememberedAnswer | None:
        """Return what a command of an org was answered; None where nothing is kept of it."""
        value = self._kept.get(_key(org, command_id))
        if value is None:
            return None
        stored = _unpack(value)
        return RememberedAnswer(command_id, stored.fingerprint, stored.at_ms, stored.result)

    def refusal(self, org: str, now_ms: int) -> CommandRefusal | None:
        """Return why no further answer of an org can be kept now, None where it can."""
        times = self._times_of_org.get(org.encode(), {})
        if len(times) >= ANSWERS_AN_ORG:
            return CommandRefusal(
                RefusalCode.RATE_LIMIT_EXCEEDED,
                f"the org has used {ANSWERS_AN_ORG} Idempotency-Keys in the last 24 hours; each is kept for so long, "
                "and no further one is taken until one of them ends",
                "Idempotency-Key",
                _seconds_until(sorted(times.values())[len(times) - ANSWERS_AN_ORG] + KEPT_MS, now_ms),
            )
        if self._bytes >= BYTES_MAX:
            oldest = _unpack(next(iter(self._kept.values()))).at_ms
            return CommandRefusal(
                RefusalCode.UNAVAILABLE,
                "too many Idempotency-Keys are kept at the moment; no further one is taken until some end",
                "Idempotency-Key",
                _seconds_until(oldest + KEPT_MS, now_ms),
            )
        return None

    def add(self, org: str, answer: RememberedAnswer) -> tuple[bytes, bytes]:
        """Keep an answer, and return its state record. Times never fall from one to the next."""
        key = _key(org, answer.command_id)
        value = _pack(StoredAnswer(answer.at_ms, answer.fingerprint, answer.result))
        self._take(key, value)
        return key, value

    def let_go(self, now_ms: int) -> list[bytes]:
        """Let go of what has been kept for its time, and return the keys of these records."""
        gone = []
        while self._kept:
            key, value = next(iter(self._kept.items()))
            if _unpack(value).at_ms > now_ms - KEPT_MS:
                break
            del self._kept[key]
            self._bytes -= _bytes_of(key, value)
            org = _org_of(key)
            del self._times_of_org[org][key]
            if not self._times_of_org[org]:
                del self._times_of_org[org]
            gone.append(key)
        return gone

    def _take(self, key: bytes, value: bytes) -> None:
        self._kept[key] = value
        self._bytes += _bytes_of(key, value)
        self._times_of_org.setdefault(_org_of(key), {})[key] = _unpack(value).at_ms


def _key(org: str, command_id: str) -> bytes:
    return MARK + org.encode() + b"\0" + command_id.encode()


def _org_of(key: bytes) -> bytes:
    """Return the org of a record's key: no org has a zero byte."""
    return key[len(MARK) :].partition(b"\0")[0]


def _bytes_of(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + OVERHEAD_BYTES


def _seconds_until(at_ms: int, now_ms: int) -> int:
    return max(1, -(-(at_ms - now_ms) // 1000))

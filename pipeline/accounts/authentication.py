"""Who may command: the code that shows a command was sent by someone who holds the command key.

Owns: the header that a command carries on `metering.billing`, how it is made, and how it is judged. Pure.
Called by: `kafka/commands.py`, which makes it; `posting/commands.py`, which refuses a command without a good one.

The code is HMAC-SHA256 (RFC 2104) over the topic, the partition, the time of sending and the exact bytes of the
command. So whoever may write to the topic, but has no key, can neither make a command nor change one; and a
command that was overheard counts on its own partition alone, and for MAC_AGE_MAX_MS. Within that time its `id` is
remembered, so that it has no second effect.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from pipeline.topics import BILLING

HEADER = "mac"
MAC_AGE_MAX_MS = 10 * 60_000
"""How far the sender's clock and the broker's time stamp may be apart, either way."""
KEYS_MAX = 2
_SHAPE = re.compile(rb"1\.(\d{1,15})\.([0-9a-f]{64})")


@dataclass(frozen=True)
class CommandKeys:
    """The keys of commands: the first signs, each is accepted. Two while one takes the place of the other."""

    keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the keys of a setting: one, or two after a comma. Raises ValueError."""
        keys = [key.strip().encode() for key in text.split(",")]
        if not all(keys) or len(keys) > KEYS_MAX:
            raise ValueError("must be one key, or two after a comma")
        return cls(tuple(keys))

    def headers(self, value: bytes, partition: int, at_ms: int) -> list[tuple[str, bytes]]:
        """Return the headers of a command that is sent to a partition at an instant, by the sender's clock."""
        return [(HEADER, b"1.%d.%s" % (at_ms, _code(self.keys[0], value, partition, at_ms)))]

    def problem(
        self, headers: Sequence[tuple[str, bytes | None]], value: bytes, partition: int, taken_ms: int
    ) -> str | None:
        """Return why a record is not taken for a command that a holder of a key sent, None where it is.

        `taken_ms` is when the broker took the record, by its own time stamp.
        """
        # A header's value may be absent, in Kafka's own form.
        given = [each or b"" for name, each in headers if name == HEADER]
        if not given:
            return f"it carries no header {HEADER!r}: who sent it has no command key, or is an older release"
        shape = _SHAPE.fullmatch(given[0]) if len(given) == 1 else None
        if shape is None:
            return f"its header {HEADER!r} is not of a form that this release knows"
        at_ms = int(shape[1])
        codes = [_code(key, value, partition, at_ms) for key in self.keys]
        # Each is compared, and each in full, so that the time it takes tells nothing.
        if not sum(hmac.compare_digest(code, shape[2]) for code in codes):
            return f"its header {HEADER!r} was made with another key, or for other bytes or another partition"
        if abs(taken_ms - at_ms) > MAC_AGE_MAX_MS:
            return (
                f"it was sent {(taken_ms - at_ms) / 1000:,.0f} s before the broker took it; "
                f"{MAC_AGE_MAX_MS // 1000} s either way are allowed"
            )
        return None


def _code(key: bytes, value: bytes, partition: int, at_ms: int) -> bytes:
    """Return the code in hex. What comes before the value has a fixed length, so no two commands look the same."""
    covered = b"%s\0%s%s%s" % (BILLING.encode(), partition.to_bytes(4), at_ms.to_bytes(8), value)
    return hmac.new(key, covered, hashlib.sha256).hexdigest().encode()

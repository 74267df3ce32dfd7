"""The id of a request: from the API to the log, to the command that an account's owner carries out, and back in the answer.

Owns: what an id may look like, which one this task works for, and the Kafka header that carries it beside a command.
Called by: `api/http/edge.py` sets it, `logs.py` shows it, `kafka/commands.py` sends it, `posting/commands.py` reads it.

An id may be a caller's own, so it is bounded and of a small alphabet: it goes into logs and into headers. The header is no
part of what a command's code covers (`accounts/authentication.py`), and nothing is decided by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar

HEADER = "request-id"
_SHAPE = re.compile(r"[A-Za-z0-9_-]{8,64}")

current: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the running task works for, None where it works for none."""


def is_request_id(text: str) -> bool:
    """Whether a text may be an id: 8 to 64 letters, digits, `_` and `-`."""
    return _SHAPE.fullmatch(text) is not None


def headers() -> list[tuple[str, bytes]]:
    """Return the Kafka headers that carry the current id, none where there is none."""
    request_id = current.get()
    return [] if request_id is None else [(HEADER, request_id.encode())]


def carried(given: Sequence[tuple[str, bytes | None]]) -> str | None:
    """Return the id that a record's headers carry, None where they carry none, or something else under its name."""
    for name, value in given:
        if name == HEADER:
            text = (value or b"").decode("ascii", "replace")
            return text if is_request_id(text) else None
    return None

"""`Idempotency-Key`: for 24 hours the same key again gets the same answer and has no second effect.

Owns: the header, and how a key becomes the id of the command that the account's owner remembers.
Called by: the POST routes that change something.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from fastapi import Header

from pipeline.accounts.commands import KEYED
from pipeline.api.http.errors import invalid
from pipeline.kafka.commands import new_command_id

KEY_MAX = 255

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="For 24 hours the same key again gets the same answer"),
]


def command_id(org: str, route: str, key: str | None) -> str:
    """Return the command's id: the same for the same org, route and key, a new one without a key.

    Raises ApiError for a key that is none.
    """
    if key is None:
        return new_command_id()
    if not 1 <= len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise invalid("Idempotency-Key", f"Idempotency-Key is 1 to {KEY_MAX} printable ASCII characters")
    return f"{KEYED}{_hash([org, route, key])[:48]}"


def fingerprint(*parts: object) -> str:
    """Return what tells one request from another that reuses its key by mistake."""
    return _hash(list(parts))[:32]


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()

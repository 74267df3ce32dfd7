"""A mail as it travels on `metering.mail`.

Owns: its shape. Called by: `mail/protocol.py`; the worker's unit writes the same fields.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from pipeline.formats import MAIL


class Mail(Struct, frozen=True, tag_field="format", tag=MAIL.number):
    """A low-balance alert: to whom, about which org, and the amounts in nano-rupees."""

    id: str
    org: str
    kind: Literal["low_balance"]
    to: str
    org_name: str
    balance_nano: int
    threshold_nano: int
    at_ms: int


class NoMailError(ValueError):
    """Bytes that are no mail."""


encode = msgspec.json.Encoder().encode
_decode = MAIL.decoder(Mail)


def decode(value: bytes | None) -> Mail:
    """Return the mail of a record's value. Raises NoMailError, and NewerFormatError where a newer release wrote it."""
    try:
        return _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The error's text may quote the record, and with it an address.
        raise NoMailError(type(error).__name__) from None

"""Read a mail as it travels on `metering.mail`.

Owns: what its bytes mean, those of earlier formats too. Its shape is in `accounts/notices.py`.
Called by: `mail/protocol.py` and `mail/outbox.py`.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from pipeline.accounts.notices import LowBalance, Mail
from pipeline.formats import MAIL


class MailOfFormat1(Struct, frozen=True):
    """A mail as it was until format 2: each was about a low balance. It may name no format."""

    id: str
    org: str
    kind: Literal["low_balance"]
    to: str
    org_name: str
    balance_nano: int
    threshold_nano: int
    at_ms: int
    format: int = 1

    def now(self) -> Mail:
        """Return the mail as it is written now."""
        about = LowBalance(self.balance_nano, self.threshold_nano)
        return Mail(self.id, self.org, self.to, self.org_name, self.at_ms, about)


class NoMailError(ValueError):
    """Bytes that are no mail."""


_decode_first = msgspec.json.Decoder(MailOfFormat1).decode
_decode = MAIL.decoder(Mail, {1: lambda value: _decode_first(value).now()})


def decode(value: bytes | None) -> Mail:
    """Return the mail of a record's value. Raises NoMailError, and NewerFormatError where a newer release wrote it."""
    try:
        return _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The error's text may quote the record, and with it an address.
        raise NoMailError(type(error).__name__) from None

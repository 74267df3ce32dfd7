"""The outbox of one partition: which record of the topic is read next, and which mails wait for another try.

Owns: the outbox, kept as one state record: the next mail to read, and the mails that a server definitely
refused for now. Pure: it says what becomes of the outbox, `mail/protocol.py` has that committed.
Called by: `mail/protocol.py`.

A mail leaves the outbox, durably, before it is handed to a server, and comes back only when it is certain
that the server did not take it. So a crash at any moment loses at most the mail in hand, and sends none
twice.
"""

from __future__ import annotations

from enum import Enum

import msgspec
from msgspec import Struct, structs

from pipeline.accounts.notices import Mail
from pipeline.formats import OUTBOX
from pipeline.mail.record import MailOfFormat1

WAITING_MAX = 500
"""How many refused mails wait at most. Then nothing more is read until there is room."""
AGE_MAX_MS = 24 * 3_600_000
"""A mail that is older is dropped: the balance that it tells of is out of date."""
BACK_OFF_MAX_MS = 30 * 60_000


class Delivery(Enum):
    """What became of a message that was handed to the mail server."""

    SENT = "sent"
    NOT_TAKEN = "not_taken"
    """The server definitely does not have it: it may be tried again."""
    REFUSED = "refused"
    """The server will never take it."""
    UNCLEAR = "unclear"
    """Nobody knows whether the server has it: it must not be sent again."""


class Waiting(Struct, frozen=True, forbid_unknown_fields=True):
    """A mail that was refused for now: when it came in, how often it was tried, when it is due again."""

    mail: Mail
    came_ms: int
    tries: int
    due_ms: int


class Outbox(Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=OUTBOX.number):
    """The offset of the next mail to read, and the mails that wait for another try.

    `topic_id` is Kafka's id of the topic that the offset is of, None where it has none.
    """

    next_offset: int = 0
    waiting: tuple[Waiting, ...] = ()
    topic_id: str | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more may be read for now."""
        return len(self.waiting) >= WAITING_MAX

    def read_up_to(self, next_offset: int) -> Outbox:
        """Return the outbox once everything before an offset was taken out of the topic."""
        return structs.replace(self, next_offset=next_offset)

    def without(self, item: Waiting) -> Outbox:
        """Return the outbox once a waiting mail was taken out."""
        return structs.replace(self, waiting=tuple(other for other in self.waiting if other is not item))

    def back(self, item: Waiting) -> Outbox:
        """Return the outbox with a mail in it that a server definitely did not take."""
        return structs.replace(self, waiting=(*self.waiting, item))

    def first_due(self) -> Waiting | None:
        """Return the mail that is due first, whether or not its time has come; None where none waits."""
        return min(self.waiting, key=lambda item: item.due_ms, default=None)


def is_too_old(came_ms: int, now_ms: int) -> bool:
    """Return whether a mail that came in at `came_ms` is not worth sending any more."""
    return now_ms - came_ms >= AGE_MAX_MS


def again(mail: Mail, came_ms: int, tries: int, now_ms: int, first_ms: int) -> Waiting:
    """Return a mail that waits after its `tries`-th try: `first_ms` at first, then twice as long each time."""
    back_off_ms = min(first_ms * 2 ** min(tries - 1, 20), BACK_OFF_MAX_MS)
    return Waiting(mail, came_ms, tries, now_ms + back_off_ms)


encode = msgspec.json.Encoder().encode


class _EarlierWaiting(Struct, forbid_unknown_fields=True):
    """A mail that was refused for now, as it was kept until format 2."""

    mail: MailOfFormat1
    came_ms: int
    tries: int
    due_ms: int


class _EarlierOutbox(Struct, forbid_unknown_fields=True):
    """An outbox as it was kept until format 2. Format 1 had no `topic_id`, and may name no format."""

    next_offset: int = 0
    waiting: tuple[_EarlierWaiting, ...] = ()
    topic_id: str | None = None
    format: int = 1


_decode_earlier = msgspec.json.Decoder(_EarlierOutbox).decode


def _of_earlier(value: bytes) -> Outbox:
    earlier = _decode_earlier(value)
    waiting = tuple(Waiting(i.mail.now(), i.came_ms, i.tries, i.due_ms) for i in earlier.waiting)
    return Outbox(earlier.next_offset, waiting, earlier.topic_id)


_decode = OUTBOX.decoder(Outbox, {1: _of_earlier, 2: _of_earlier})


def decode(value: bytes) -> Outbox:
    """Return the outbox of a state record.

    Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError where it is none.
    """
    return _decode(value)

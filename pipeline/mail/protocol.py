"""The mailer's protocol: the order of steps that takes a partition over, and that of one mail.

Owns: those orders, and what is done next: try a waiting mail again, read the next one, or wait. Pure.
Called by: `mail/partition.py`, which takes the steps with a real Kafka and mail server, and the simulation in
`tests/simulation`, which takes them with models of both and ends at any of them.
Next: `mail/outbox.py` says what becomes of the outbox, `mail/render.py` makes the message.

A mail is taken out of the topic or the outbox, durably, before it is handed to a server, and comes back only
when the server surely does not have it. So it is sent at most once, and lost only where a process ends with
it in hand.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from msgspec import structs

from pipeline import identity, topics
from pipeline.accounts.notices import Mail
from pipeline.mail import outbox, record, render
from pipeline.mail.outbox import Delivery, Outbox, Waiting
from pipeline.mail.render import MailSender
from pipeline.steps import (
    NOTHING_ACCEPTED,
    Beginning,
    Commit,
    Fence,
    Idle,
    Now,
    OutgoingRecord,
    OutgoingStep,
    Output,
    Restore,
    Step,
    Taken,
    TopicPlace,
)

T = TypeVar("T")

OUTBOX_KEY = b"outbox"


class Fate(Enum):
    """How a mail ended: nothing more is done about it."""

    SENT = "sent"
    REFUSED = "refused"
    UNCLEAR = "unclear"
    INVALID = "invalid"
    EXPIRED = "expired"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class HandOver(Step[tuple[Delivery, str]]):
    """Hand a message to the mail server; what came of it, and a word about that without any address in it."""

    mail_id: str
    message: EmailMessage
    recipient: str


class Retried(Step[None]):
    """A waiting mail is tried again: count it."""


@dataclass(frozen=True)
class Ended(Step[None]):
    """A mail has ended: count it, and tell it by its name where it has one. `word` says why."""

    fate: Fate
    name: str = ""
    word: str = ""
    count: int = 1


MailStep: TypeAlias = OutgoingStep | HandOver | Retried | Ended
MailProtocol: TypeAlias = Generator[MailStep, Any, T]


class MailTurns:
    """Sends the mails of one partition, one a turn."""

    def __init__(
        self, deployment: str, partition: int, sender: MailSender, *, first_retry_ms: int, has_server: bool
    ) -> None:
        """Prepare. `first_retry_ms` is after how long a mail that was not taken is first tried again."""
        self._topic, self._state = (
            TopicPlace(topics.MAIL, partition),
            TopicPlace(topics.MAIL_STATE, partition),
        )
        self._deployment, self._sender = deployment, sender
        self._first_retry_ms, self._has_server = first_retry_ms, has_server
        self.outbox = Outbox()

    @property
    def next_offset(self) -> int:
        """Everything below it is out of the topic for good."""
        return self.outbox.next_offset

    @property
    def waiting(self) -> int:
        """How many mails wait for another try."""
        return len(self.outbox.waiting)

    def take_over(self, accepted: Mapping[str, str] = NOTHING_ACCEPTED) -> MailProtocol[int]:
        """Become the one owner of the partition and return the offset of the next mail.

        Raises AnotherTopicError where the topic of mails is another one than the one that was read, unless its id is
        the one `accepted` has for its name: then it is read from its beginning. Raises MixedHistoriesError where the
        partition is of another deployment, which sends its mails itself.
        """
        yield from Fence()
        state = yield from Restore(self._state)
        if OUTBOX_KEY in state:
            self.outbox = outbox.decode(state[OUTBOX_KEY])
        topic_id, is_another = yield from identity.whose_topic(
            self._deployment, self._topic, self.outbox.topic_id, accepted
        )
        if is_another:
            yield from self.commit(structs.replace(self.outbox, next_offset=0, topic_id=topic_id))
        self.outbox = structs.replace(self.outbox, topic_id=topic_id)
        # What the topic dropped for its age nobody would send any more.
        first_offset = yield from Beginning(self._topic)
        return max(self.outbox.next_offset, first_offset)

    def turn(self, records: Sequence[OutgoingRecord]) -> MailProtocol[Idle | None]:
        """Do the one thing that is next, given the records at hand; return Idle where there is nothing."""
        now_ms = yield from Now()
        due = self.outbox.first_due()
        if due is not None and due.due_ms <= now_ms:
            yield from self.retry(due)
        elif not records or self.outbox.is_full:
            return Idle(None if due is None else due.due_ms)
        elif self._has_server:
            yield from self.send_next(records[0])
        else:
            yield from self.skip(records)
        return None

    def send_next(self, head: OutgoingRecord) -> MailProtocol[None]:
        """Take the next record out of the topic for good, and send its mail if it is one.

        Raises NewerFormatError, with the record left where it is, where only a newer release can read it.
        """
        # 1. What it says, if it is a mail.
        try:
            mail = record.decode(head.value)
        except record.NoMailError as error:
            mail, why = None, str(error)
        # 2. Out of the topic, durably: from here on nobody reads it again.
        yield from self.commit(self.outbox.read_up_to(head.offset + 1))
        yield from Taken(1)
        # 3. Then it is sent.
        if mail is None:
            yield from Ended(Fate.INVALID, f"offset {head.offset}", why)
        else:
            yield from self.send(mail, head.timestamp, tries=1)

    def retry(self, item: Waiting) -> MailProtocol[None]:
        """Take a waiting mail out of the outbox, durably, and try it again."""
        yield from self.commit(self.outbox.without(item))
        if not self._has_server:
            yield from Ended(Fate.SKIPPED, item.mail.id, "no mail server is set")
            return
        yield from Retried()
        yield from self.send(item.mail, item.came_ms, tries=item.tries + 1)

    def skip(self, records: Sequence[OutgoingRecord]) -> MailProtocol[None]:
        """Without a mail server, take everything at hand out of the topic and count it."""
        count = len(records)
        yield from self.commit(self.outbox.read_up_to(records[-1].offset + 1))
        yield from Taken(count)
        yield from Ended(Fate.SKIPPED, count=count)

    def send(self, mail: Mail, came_ms: int, tries: int) -> MailProtocol[None]:
        """Send a mail that is in neither topic nor outbox any more; put it back if it surely was not taken."""
        now_ms = yield from Now()
        if outbox.is_too_old(came_ms, now_ms):
            yield from Ended(Fate.EXPIRED, mail.id, f"after {tries - 1} tries")
            return
        try:
            message = render.render(mail, self._sender)
        except render.AddressError as error:
            yield from Ended(Fate.INVALID, mail.id, str(error))
            return
        delivery, word = yield from HandOver(mail.id, message, mail.to)
        if delivery is Delivery.NOT_TAKEN:
            now_ms = yield from Now()
            item = outbox.again(mail, came_ms, tries, now_ms, self._first_retry_ms)
            yield from self.commit(self.outbox.back(item))
        else:
            yield from Ended(Fate(delivery.value), mail.id, word)

    def commit(self, changed: Outbox) -> MailProtocol[None]:
        """Keep a changed outbox, durably. Refused to an owner that was fenced."""
        yield from Commit({self._state: [Output(OUTBOX_KEY, outbox.encode(changed))]})
        self.outbox = changed

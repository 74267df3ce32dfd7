"""The webhooks' protocol: the order of steps that takes a partition over, and that of some messages together.

Owns: those orders, and what is done next: try waiting messages again, read the next ones, or wait. Pure.
Called by: `webhook/partition.py`, which takes the steps with a real Kafka and real receivers.
Next: `webhook/waiting.py` says what is kept, `webhook/message.py` what is sent.

A message is done with, durably, only after its receiver has taken it, or after a day. So it is sent at least once, and
again where a process ends in between, with the same id: its receiver can tell. Messages are tried a few at a time, so
that a receiver that does not answer holds up no others for long, and they may arrive in another order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from msgspec import structs

from pipeline import identity, topics
from pipeline.accounts.notices import WebhookMessage
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
from pipeline.webhook import message as messages
from pipeline.webhook import waiting as kept_waiting
from pipeline.webhook.waiting import PROGRESS_KEY, WAITING_MAX, WaitingMessage, WebhookProgress

T = TypeVar("T")

TOGETHER = 16
"""How many messages are tried at the same time."""


class Attempted(Enum):
    """What became of one try."""

    TAKEN = "taken"
    NOT_TAKEN = "not_taken"
    GONE = "gone"
    """The receiver says that it wants nothing any more: HTTP 410."""


class WebhookFate(Enum):
    """How a message ended: nothing more is done about it."""

    SENT = "sent"
    GONE = "gone"
    EXPIRED = "expired"
    INVALID = "invalid"


@dataclass(frozen=True)
class Send(Step[Sequence[tuple[Attempted, str]]]):
    """Send messages, all at the same time; what came of each, and a word about that without any URL in it."""

    messages: tuple[WebhookMessage, ...]


@dataclass(frozen=True)
class TriedAgain(Step[None]):
    """Waiting messages are tried again: count them."""

    count: int


@dataclass(frozen=True)
class Finished(Step[None]):
    """A message has ended: count it, and tell it by its name. `word` says why."""

    fate: WebhookFate
    name: str
    word: str = ""


WebhookStep: TypeAlias = OutgoingStep | Send | TriedAgain | Finished
WebhookProtocol: TypeAlias = Generator[WebhookStep, Any, T]


class WebhookTurns:
    """Sends the messages of one partition, some a turn."""

    def __init__(self, deployment: str, partition: int, *, first_retry_ms: int) -> None:
        """Prepare. `first_retry_ms` is after how long a message that was not taken is first tried again."""
        self._topic = TopicPlace(topics.WEBHOOKS, partition)
        self._state = TopicPlace(topics.WEBHOOKS_STATE, partition)
        self._deployment, self._first_retry_ms = deployment, first_retry_ms
        self.progress = WebhookProgress()
        self.waits: dict[str, WaitingMessage] = {}

    @property
    def next_offset(self) -> int:
        """Everything below it is out of the topic for good: it is done with, or waits."""
        return self.progress.next_offset

    @property
    def waiting(self) -> int:
        """How many messages wait for another try."""
        return len(self.waits)

    def take_over(self, accepted: Mapping[str, str] = NOTHING_ACCEPTED) -> WebhookProtocol[int]:
        """Become the one owner of the partition and return the offset of the next message.

        Raises AnotherTopicError where the topic is another one than the one that was read, unless its id is the one
        `accepted` has for its name: then it is read from its beginning. Raises MixedHistoriesError where the partition
        is of another deployment, which sends its messages itself.
        """
        yield from Fence()
        self.progress, self.waits = kept_waiting.restored((yield from Restore(self._state)))
        topic_id, is_another = yield from identity.whose_topic(
            self._deployment, self._topic, self.progress.topic_id, accepted
        )
        if is_another:
            yield from self._commit(WebhookProgress(0, topic_id), [])
        self.progress = structs.replace(self.progress, topic_id=topic_id)
        # What the topic dropped for its age nobody would send any more.
        first_offset = yield from Beginning(self._topic)
        return max(self.progress.next_offset, first_offset)

    def turn(self, records: Sequence[OutgoingRecord]) -> WebhookProtocol[Idle | None]:
        """Do what is next, given the records at hand; return Idle where there is nothing."""
        now_ms = yield from Now()
        by_time = sorted(self.waits.values(), key=lambda item: item.due_ms)
        due = [item for item in by_time[:TOGETHER] if item.due_ms <= now_ms]
        if due:
            yield from TriedAgain(len(due))
            yield from self._send(due, now_ms)
        elif records and len(self.waits) < WAITING_MAX:
            yield from self._send_new([records[n] for n in range(min(len(records), TOGETHER))], now_ms)
        else:
            return Idle(by_time[0].due_ms if by_time else None)
        return None

    def _send_new(self, records: Sequence[OutgoingRecord], now_ms: int) -> WebhookProtocol[None]:
        """Send the messages of the next records, and take these out of the topic for good.

        Raises NewerFormatError, with the records left where they are, where only a newer release can read one.
        """
        fresh = []
        for record in records:
            try:
                found = messages.decode(record.value)
            except messages.NoMessageError as error:
                yield from Finished(WebhookFate.INVALID, f"offset {record.offset}", str(error))
            else:
                fresh.append(WaitingMessage(found, record.timestamp, 0, now_ms))
        progress = structs.replace(self.progress, next_offset=records[-1].offset + 1)
        yield from self._send(fresh, now_ms, progress)
        yield from Taken(len(records))

    def _send(
        self, items: Sequence[WaitingMessage], now_ms: int, progress: WebhookProgress | None = None
    ) -> WebhookProtocol[None]:
        """Send messages, and keep durably what came of it: who was not reached waits, the others are done with."""
        young = [item for item in items if not kept_waiting.is_too_old(item.came_ms, now_ms)]
        attempts = (yield from Send(tuple(item.message for item in young))) if young else ()
        now_ms = yield from Now()
        still: dict[str, WaitingMessage] = {}
        ended = {
            item.message.id: Finished(WebhookFate.EXPIRED, item.message.id, f"after {item.tries} tries")
            for item in items
        }
        for item, (attempted, word) in zip(young, attempts, strict=True):
            name = item.message.id
            if attempted is Attempted.NOT_TAKEN:
                ended.pop(name, None)
                still[name] = kept_waiting.again(
                    item.message, item.came_ms, item.tries + 1, now_ms, self._first_retry_ms
                )
            else:
                fate = WebhookFate.SENT if attempted is Attempted.TAKEN else WebhookFate.GONE
                ended[name] = Finished(fate, name, word)
        changed = [kept_waiting.kept(item) for item in still.values()]
        changed += [kept_waiting.gone(name) for name in ended if name in self.waits]
        if progress is not None or changed:
            yield from self._commit(progress, changed)
        self.waits = {name: item for name, item in self.waits.items() if name not in ended} | still
        yield from _tell(ended.values())

    def _commit(self, progress: WebhookProgress | None, changed: Sequence[Output]) -> WebhookProtocol[None]:
        """Keep what changed, durably. Refused to an owner that was fenced."""
        progress = progress or self.progress
        head = Output(PROGRESS_KEY, kept_waiting.encode_progress(progress))
        yield from Commit({self._state: [*changed, head]})
        self.progress = progress


def _tell(ended: Iterable[Finished]) -> WebhookProtocol[None]:
    for each in ended:
        yield from each

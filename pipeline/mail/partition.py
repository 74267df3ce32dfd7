"""Send one partition's mails: each is committed as sent before it is handed to the mail server.

Owns: the order of those steps, and when a refused mail is tried again.
Called by: `mail/mailer.py`. Next: `mail/outbox.py`, `mail/render.py`, `mail/smtp.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import telemetry, topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.fenced import FencedLog, Output
from pipeline.mail import outbox, record, render, smtp
from pipeline.mail.outbox import Outbox, Waiting
from pipeline.mail.record import Mail
from pipeline.mail.render import Sender
from pipeline.mail.smtp import Outcome

log = logging.getLogger(__name__)

OUTBOX_KEY = b"outbox"
FIRST_RETRY_S = 30.0
STOP_LIMIT_S = 8.0
"""How long a mail that is on its way is waited for when the partition is given up."""


@dataclass(frozen=True)
class Post:
    """How mails go out: the server, None where none is set, and whom they come from."""

    server: smtp.Server | None
    sender: Sender
    first_retry_s: float = FIRST_RETRY_S


class MailPartition:
    """One partition of the mail topic on its way to the mail server."""

    def __init__(self, kafka: KafkaConnection, deployment: str, partition: int, post: Post) -> None:
        """Prepare; `open` makes it ours."""
        self._kafka, self._group = kafka, mail_group(deployment)
        self._topic = TopicPartition(topics.MAIL, partition)
        self._state = TopicPartition(topics.MAIL_STATE, partition)
        self._post = post
        self._log = FencedLog(kafka, f"{deployment}-mail-{partition}")
        self._outbox = Outbox()
        self._records: deque[ConsumerRecord] = deque()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._stopping = False

    async def open(self) -> int:
        """Fence the previous owner and return the offset of the next mail."""
        await self._log.start()
        state = await self._log.restore(topics.MAIL_STATE, self._state.partition)
        if (kept := state.get(OUTBOX_KEY)) is not None:
            self._outbox = outbox.decode(kept)
        # What the topic dropped for its age nobody would send any more.
        first = await _beginning(self._kafka, self._topic)
        return max(self._outbox.next_offset, first)

    async def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records in, and return when they are dealt with."""
        self._records.extend(records)
        self._changed.set()
        while self._records:
            self._taken.clear()
            await self._taken.wait()

    async def stop(self, task: asyncio.Task[None]) -> None:
        """Let the mail in hand go out, then disconnect. `task` is the one that runs `run`."""
        self._stopping = True
        self._changed.set()
        await asyncio.wait([task], timeout=STOP_LIMIT_S)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        await self.close()

    async def close(self) -> None:
        """Disconnect."""
        await self._log.close()

    async def run(self) -> None:
        """Send until stopped. Raises what must end the process: another owner, or a broker out of reach."""
        while not self._stopping:
            telemetry.MAIL_WAITING.labels(self._topic.partition).set(len(self._outbox.waiting))
            due = self._outbox.first_due()
            wait_s = None if due is None else max(0.0, (due.due_ms - _now_ms()) / 1000)
            if due is not None and wait_s == 0:
                await self._retry(due)
            elif self._records and not self._outbox.is_full:
                await self._next()
            else:
                await self._until_something_to_do(wait_s)

    async def _until_something_to_do(self, wait_s: float | None) -> None:
        self._changed.clear()
        if self._stopping:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _next(self) -> None:
        """Take the next record out of the topic for good, and send its mail if it is one."""
        if self._post.server is None:
            await self._skip()
            return
        head = self._records[0]
        await self._commit(self._outbox.read_up_to(head.offset + 1))
        self._done_with(1)
        try:
            mail = record.decode(head.value)
        except record.NoMailError as error:
            self._count("invalid", f"offset {head.offset}", str(error))
            return
        await self._hand_over(self._post.server, mail, head.timestamp, tries=1)

    async def _retry(self, item: Waiting) -> None:
        """Take a waiting mail out of the outbox, durably, and try it again."""
        await self._commit(self._outbox.without(item))
        if self._post.server is None:
            self._count("skipped", item.mail.id, "no mail server is set")
            return
        telemetry.MAIL_RETRIES.inc()
        await self._hand_over(self._post.server, item.mail, item.came_ms, tries=item.tries + 1)

    async def _skip(self) -> None:
        """Without a mail server, take everything at hand out of the topic and count it."""
        count = len(self._records)
        await self._commit(self._outbox.read_up_to(self._records[-1].offset + 1))
        self._done_with(count)
        telemetry.MAIL.labels("skipped").inc(count)

    async def _hand_over(self, server: smtp.Server, mail: Mail, came_ms: int, tries: int) -> None:
        if outbox.is_too_old(came_ms, _now_ms()):
            self._count("expired", mail.id, f"after {tries - 1} tries")
            return
        try:
            message = render.render(mail, self._post.sender)
        except render.AddressError as error:
            self._count("invalid", mail.id, str(error))
            return
        outcome, word = await smtp.send(server, message, self._post.sender.address, mail.to)
        if outcome is Outcome.NOT_TAKEN:
            log.warning("mail %s was not taken, it is tried again: %s", mail.id, word)
            first_ms = int(self._post.first_retry_s * 1000)
            item = outbox.again(mail, came_ms, tries, _now_ms(), first_ms)
            await self._commit(self._outbox.back(item))
            return
        self._count(outcome.value, mail.id, word)

    async def _commit(self, changed: Outbox) -> None:
        await self._log.commit(
            {self._state: [Output(OUTBOX_KEY, outbox.encode(changed))]},
            {self._topic: changed.next_offset},
            self._group,
        )
        self._outbox = changed

    def _done_with(self, count: int) -> None:
        for _ in range(count):
            self._records.popleft()
        self._taken.set()

    def _count(self, outcome: str, name: str, word: str) -> None:
        telemetry.MAIL.labels(outcome).inc()
        log.log(
            logging.INFO if outcome == Outcome.SENT.value else logging.WARNING,
            "mail %s: %s (%s)",
            name,
            outcome,
            word,
        )


def mail_group(deployment: str) -> str:
    """Return the consumer group of a deployment's mailers."""
    return f"{deployment}-mail"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _beginning(kafka: KafkaConnection, where: TopicPartition) -> int:
    """Return the first offset that a partition still has."""
    async with started_consumer(kafka) as consumer:
        offsets: dict[TopicPartition, int] = await consumer.beginning_offsets([where])
        return offsets[where]

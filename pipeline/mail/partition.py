"""Send one partition's mails: take the steps of the mailer's protocol with a real Kafka and mail server.

Owns: what waits to be sent, how each step is taken, and what is counted.
Called by: `mail/mailer.py`. Next: `mail/protocol.py` has the steps in their order, `mail/smtp.py` sends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import telemetry, topics
from pipeline.connection import KafkaConnection
from pipeline.driving import drive
from pipeline.kafka.bounded import last_headers
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.topic_ids import topic_ids
from pipeline.mail import smtp
from pipeline.mail.outbox import Delivery
from pipeline.mail.protocol import Beginning, Ended, Fate, HandOver, MailStep, MailTurns, Retried, Taken
from pipeline.mail.render import MailSender
from pipeline.steps import NOTHING_ACCEPTED, Commit, Fence, LastHeaders, Now, Restore, TopicIds

log = logging.getLogger(__name__)

FIRST_RETRY_S = 30.0
STOP_LIMIT_S = 8.0
"""How long a mail that is on its way is waited for when the partition is given up."""


@dataclass(frozen=True)
class Post:
    """How mails are sent: by which server, None where none is set, from whom, and when first tried again."""

    server: smtp.MailServer | None
    sender: MailSender
    first_retry_s: float = FIRST_RETRY_S


class MailPartition:
    """One partition of the mail topic on its way to the mail server."""

    def __init__(
        self,
        kafka: KafkaConnection,
        deployment: str,
        partition: int,
        post: Post,
        accepted_topics: Mapping[str, str] = NOTHING_ACCEPTED,
    ) -> None:
        """Prepare; nothing is connected before `open`. `accepted_topics` are the setting's of that name."""
        self._accepted_topics = accepted_topics
        self._kafka = kafka
        self._topic = TopicPartition(topics.MAIL, partition)
        self._post = post
        self._log = FencedLog(kafka, f"{deployment}-mail-{partition}")
        self._turns = MailTurns(
            deployment,
            partition,
            post.sender,
            first_retry_ms=int(post.first_retry_s * 1000),
            has_server=post.server is not None,
        )
        self._records: deque[ConsumerRecord] = deque()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._stopping = False

    async def open(self) -> int:
        """Fence the previous owner and return the offset of the next mail."""
        return await drive(self._turns.take_over(self._accepted_topics), self._take)

    @property
    def next_offset(self) -> int:
        """Everything below it is out of the topic for good."""
        return self._turns.outbox.next_offset

    async def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records in, and return when each of them is out of the topic for good."""
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
        """Disconnect. How many mails wait, the next owner shows."""
        telemetry.MAIL_WAITING.remove(self._topic.partition)
        await self._log.close()

    async def run(self) -> None:
        """Send until stopped. Raises what must end the process: another owner, or a broker out of reach."""
        while not self._stopping:
            telemetry.MAIL_WAITING.labels(self._topic.partition).set(len(self._turns.outbox.waiting))
            idle = await drive(self._turns.turn(self._records), self._take)
            if idle is not None:
                due_ms = idle.until_ms
                await self._until_something_to_do(
                    None if due_ms is None else max(0.0, (due_ms - _now_ms()) / 1000)
                )

    async def _until_something_to_do(self, wait_s: float | None) -> None:
        self._changed.clear()
        if self._stopping:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _take(self, step: MailStep) -> object:  # noqa: C901, PLR0911, PLR0912 - one case a step
        """Take a step of the protocol and return its answer."""
        match step:
            case Fence():
                await self._log.start()
            case Restore(place):
                return step.answered(await self._log.restore(place.topic, place.partition))
            case TopicIds(names):
                return step.answered(await topic_ids(self._kafka, names))
            case LastHeaders(place):
                return step.answered(await last_headers(self._kafka, TopicPartition(*place)))
            case Beginning(place):
                return step.answered(await _beginning(self._kafka, TopicPartition(*place)))
            case Commit():
                await self._log.commit(step.outputs)
            case Now():
                return step.answered(_now_ms())
            case Taken(count):
                for _ in range(count):
                    self._records.popleft()
                self._taken.set()
            case HandOver():
                return step.answered(await self._hand_over(step))
            case Retried():
                telemetry.MAIL_RETRIES.inc()
            case Ended():
                _note(step)
            case _:
                assert_never(step)
        return None

    async def _hand_over(self, step: HandOver) -> tuple[Delivery, str]:
        assert self._post.server is not None, "nothing is handed over where there is no server"
        delivery, word = await smtp.send(
            self._post.server, step.message, self._post.sender.address, step.recipient
        )
        if delivery is Delivery.NOT_TAKEN:
            log.warning("mail %s was not taken, it is tried again: %s", step.mail_id, word)
        return delivery, word


def _note(ended: Ended) -> None:
    telemetry.MAIL.labels(ended.fate.value).inc(ended.count)
    level = logging.INFO if ended.fate is Fate.SENT else logging.WARNING
    if ended.name:
        log.log(level, "mail %s: %s (%s)", ended.name, ended.fate.value, ended.word)


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

"""Send one partition's mails: take the steps of the mailer's protocol with a real Kafka and mail server.

Owns: how a mail is handed over, and what is counted.
Called by: `mail/mailer.py`. Next: `mail/protocol.py` has the steps in their order, `mail/smtp.py` sends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from pipeline import telemetry, topics
from pipeline.connection import KafkaConnection
from pipeline.exposition import start_at_zero
from pipeline.kafka.outgoing import OutgoingPartition
from pipeline.mail import smtp
from pipeline.mail.outbox import Delivery
from pipeline.mail.protocol import Ended, Fate, HandOver, MailStep, MailTurns, Retried
from pipeline.mail.render import MailSender
from pipeline.steps import NOTHING_ACCEPTED

log = logging.getLogger(__name__)

FIRST_RETRY_S = 30.0


@dataclass(frozen=True)
class Post:
    """How mails are sent: by which server, None where none is set, from whom, and when first tried again."""

    server: smtp.MailServer | None
    sender: MailSender
    first_retry_s: float = FIRST_RETRY_S


class MailPartition(OutgoingPartition):
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
        self._post = post
        start_at_zero(telemetry.MAIL, (fate.value for fate in Fate))
        turns = MailTurns(
            deployment,
            partition,
            post.sender,
            first_retry_ms=int(post.first_retry_s * 1000),
            has_server=post.server is not None,
        )
        place = TopicPartition(topics.MAIL, partition)
        super().__init__(
            kafka,
            place,
            f"{deployment}-mail-{partition}",
            turns,
            telemetry.MAIL_WAITING,
            accepted_topics,
        )

    async def take(self, step: MailStep) -> object:
        """Take a step of the protocol and return its answer."""
        match step:
            case HandOver():
                return step.answered(await self._hand_over(step))
            case Retried():
                telemetry.MAIL_RETRIES.inc()
            case Ended():
                _note(step)
            case _:
                return await self.take_kafka_step(step)
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

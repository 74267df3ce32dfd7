"""Send one partition's webhooks: take the steps of their protocol with a real Kafka and real receivers.

Owns: how messages are sent together, and what is counted.
Called by: `webhook/sender.py`. Next: `webhook/protocol.py` has the steps in their order, `webhook/sending.py` sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiokafka import TopicPartition

from pipeline import telemetry, topics
from pipeline.exposition import start_at_zero
from pipeline.kafka.outgoing import OutgoingPartition
from pipeline.settings import Settings
from pipeline.webhook.protocol import (
    Attempted,
    Finished,
    Send,
    TriedAgain,
    WebhookFate,
    WebhookStep,
    WebhookTurns,
)
from pipeline.webhook.sending import WebhookClient

log = logging.getLogger(__name__)

FIRST_RETRY_S = 30.0


class WebhookPartition(OutgoingPartition):
    """One partition of the topic of webhooks on its way to the orgs' receivers."""

    def __init__(
        self, settings: Settings, partition: int, client: WebhookClient, first_retry_s: float = FIRST_RETRY_S
    ) -> None:
        """Prepare; nothing is connected before `open`."""
        self._client = client
        start_at_zero(telemetry.NOTICE_WEBHOOKS, (fate.value for fate in WebhookFate))
        super().__init__(
            settings.kafka,
            TopicPartition(topics.WEBHOOKS, partition),
            f"{settings.deployment}-webhooks-{partition}",
            WebhookTurns(settings.deployment, partition, first_retry_ms=int(first_retry_s * 1000)),
            telemetry.NOTICE_WEBHOOKS_WAITING,
            settings.accepted_topics,
        )

    async def take(self, step: WebhookStep) -> object:
        """Take a step of the protocol and return its answer."""
        match step:
            case Send():
                return step.answered(await self._send(step))
            case TriedAgain(count):
                telemetry.NOTICE_WEBHOOK_RETRIES.inc(count)
            case Finished():
                _note(step)
            case _:
                return await self.take_kafka_step(step)
        return None

    async def _send(self, step: Send) -> Sequence[tuple[Attempted, str]]:
        attempts = await asyncio.gather(*(self._client.send(message) for message in step.messages))
        for message, (attempted, word) in zip(step.messages, attempts, strict=True):
            if attempted is Attempted.NOT_TAKEN:
                log.warning("webhook %s was not taken, it is tried again: %s", message.id, word)
        return attempts


def _note(ended: Finished) -> None:
    telemetry.NOTICE_WEBHOOKS.labels(ended.fate.value).inc()
    level = logging.INFO if ended.fate is WebhookFate.SENT else logging.WARNING
    log.log(level, "webhook %s: %s (%s)", ended.name, ended.fate.value, ended.word)

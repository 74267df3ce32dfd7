"""Run the sender of webhooks: send those of the partitions that the consumer group assigns to this process.

Owns: what the settings mean for webhooks.
Called by: `api/server/main.py`, beside the API. Next: `kafka/outgoing.py` runs `webhook/partition.py`.
"""

from __future__ import annotations

from pipeline import topics
from pipeline.kafka.outgoing import OutgoingRole, now_ms
from pipeline.settings import Settings
from pipeline.webhook.partition import FIRST_RETRY_S, WebhookPartition
from pipeline.webhook.sending import WebhookClient


class WebhookSender(OutgoingRole):
    """Sends the webhooks of the partitions that the group assigns, until cancelled."""

    def __init__(
        self, settings: Settings, client: WebhookClient, *, first_retry_s: float = FIRST_RETRY_S
    ) -> None:
        """Prepare; nothing is connected before `run`. The client is closed when that ends."""
        self._client = client
        super().__init__(
            settings,
            "webhooks",
            topics.WEBHOOKS,
            lambda partition: WebhookPartition(settings, partition, client, first_retry_s),
        )

    async def run(self) -> None:
        """Read and send until cancelled. Raises what must end the process."""
        try:
            await super().run()
        finally:
            await self._client.close()


def webhook_sender(settings: Settings, session_secret: str) -> WebhookSender:
    """Return the sender that a server runs; the orgs' secrets are drawn from the session secret."""
    return WebhookSender(settings, WebhookClient(session_secret, lambda: now_ms() // 1000))

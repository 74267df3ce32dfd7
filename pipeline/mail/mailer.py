"""Run the mailer: send the mails of the partitions that the consumer group assigns to this process.

Owns: what the settings mean for mail.
Called by: `api/server/main.py`, beside the API. Next: `kafka/outgoing.py` runs `mail/partition.py`.
"""

from __future__ import annotations

import logging

from pipeline import topics
from pipeline.kafka.outgoing import OutgoingRole
from pipeline.mail.partition import FIRST_RETRY_S, MailPartition, Post
from pipeline.mail.render import MailSender
from pipeline.mail.smtp import MailServer
from pipeline.settings import Settings

log = logging.getLogger(__name__)


class Mailer(OutgoingRole):
    """Sends the mails of the partitions that the group assigns, until cancelled."""

    def __init__(self, settings: Settings, *, first_retry_s: float = FIRST_RETRY_S) -> None:
        """Prepare; nothing is connected before `run`. Raises SmtpUrlError or AddressError for bad settings."""
        url = settings.smtp_url
        server = (
            MailServer.parse(url.get_secret_value(), password_in_clear=settings.smtp_password_in_clear)
            if url is not None
            else None
        )
        post = Post(server, MailSender.parse(settings.mail_from, settings.public_url), first_retry_s)
        self._has_server = server is not None
        super().__init__(
            settings,
            "mail",
            topics.MAIL,
            lambda partition: MailPartition(
                settings.kafka, settings.deployment, partition, post, settings.accepted_topics
            ),
        )

    async def run(self) -> None:
        """Read and send until cancelled. Raises what must end the process."""
        if not self._has_server:
            log.warning("METERING_SMTP_URL is not set: mails are counted, not sent")
        await super().run()

"""Run the mailer: send the mails of the partitions that the consumer group assigns to this process.

Owns: the partitions' tasks, and what the settings mean for mail.
Called by: `api/server/main.py`, beside the API. Next: `mail/partition.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from pipeline import topics
from pipeline.kafka.attempts import error_of
from pipeline.kafka.reader import GroupReader
from pipeline.mail.partition import FIRST_RETRY_S, MailPartition, Post, mail_group
from pipeline.mail.render import MailSender
from pipeline.mail.smtp import MailServer
from pipeline.settings import Settings

log = logging.getLogger(__name__)

FETCH_BYTES = 1024 * 1024


class Mailer:
    """Sends the mails of the partitions that the group assigns, until cancelled."""

    def __init__(self, settings: Settings, *, first_retry_s: float = FIRST_RETRY_S) -> None:
        """Prepare; nothing is connected before `run`. Raises SmtpUrlError or AddressError for bad settings."""
        url = settings.smtp_url
        server = (
            MailServer.parse(url.get_secret_value(), password_in_clear=settings.smtp_password_in_clear)
            if url is not None
            else None
        )
        self._post = Post(server, MailSender.parse(settings.mail_from, settings.public_url), first_retry_s)
        self._settings = settings
        self._partitions: dict[int, tuple[MailPartition, asyncio.Task[None]]] = {}
        self._reader = GroupReader(
            settings.kafka,
            mail_group(settings.deployment),
            [topics.MAIL],
            self,
            fetch_bytes=FETCH_BYTES,
            instance=settings.instance,
            interruptible=True,
            done=self._next_offsets,
        )
        self._reader.watch_as("mail")

    async def run(self) -> None:
        """Read and send until cancelled. Raises what must end the process."""
        if self._post.server is None:
            log.warning("METERING_SMTP_URL is not set: mails are counted, not sent")
        await self._reader.run()

    async def open(self, partition: int) -> Mapping[str, int]:
        """Take a partition over; see `kafka/reader.py`."""
        settings = self._settings
        sending = MailPartition(
            settings.kafka, settings.deployment, partition, self._post, settings.accepted_topics
        )
        try:
            offset = await sending.open()
        except BaseException:
            await sending.close()
            raise
        task = asyncio.create_task(sending.run())
        task.add_done_callback(self._ended)
        self._partitions[partition] = sending, task
        return {topics.MAIL: offset}

    async def process(
        self,
        topic: str,  # noqa: ARG002 - there is only one
        partition: int,
        records: Sequence[ConsumerRecord],
    ) -> None:
        """Hand records to the partition, and return when each of them is out of the topic for good."""
        await self._partitions[partition][0].add(records)

    async def close(self, partition: int) -> None:
        """Let the partition's mail in hand go out, then give it up."""
        if partition not in self._partitions:
            return
        sending, task = self._partitions.pop(partition)
        await sending.stop(task)

    def _next_offsets(self, partition: int) -> Mapping[str, int]:
        """Return the offset up to which a partition's mails are dealt with, for the group."""
        owned = self._partitions.get(partition)
        return {} if owned is None else {topics.MAIL: owned[0].next_offset}

    def _ended(self, task: asyncio.Task[None]) -> None:
        if (error := error_of(task)) is not None:
            self._reader.fail(error)

    @property
    def problem(self) -> str | None:
        """What keeps mails from being read, None where nothing does. A mail server that is down does not."""
        return self._reader.problem

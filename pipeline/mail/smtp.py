"""Hand one message to a mail server, and say whether the server has it, has it not, or may have it.

Owns: the server's address, TLS, time limits, and what each failure means.
Called by: `mail/partition.py`. Its address and the recipients are never logged.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from urllib.parse import unquote, urlsplit

import aiosmtplib

from pipeline.mail.outbox import Delivery

LIMIT_S = 20.0
SUBMISSION_PORT = 587
SUBMISSION_TLS_PORT = 465
_REFUSED_FOR_NOW, _REFUSED_FOR_GOOD, _NO_ANSWER_ANY_MORE = 400, 500, 600


class SmtpUrlError(ValueError):
    """A URL that names no mail server."""


@dataclass(frozen=True)
class MailServer:
    """A mail server: `smtp://user:password@host:port`, `smtps://` for TLS from the first byte.

    With a password it has to offer TLS, unless `password_in_clear`.
    """

    host: str
    port: int
    tls: bool
    password_in_clear: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, *, password_in_clear: bool = False) -> MailServer:
        """Return the server of a URL. Raises SmtpUrlError, which does not repeat the URL."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise SmtpUrlError(
                "the mail server's URL must look like smtp://user:password@host:port"
            ) from None
        if parts.scheme not in ("smtp", "smtps") or not host or parts.path.strip("/") or parts.query:
            raise SmtpUrlError("the mail server's URL must look like smtp://user:password@host:port")
        tls = parts.scheme == "smtps"
        return cls(
            host,
            port or (SUBMISSION_TLS_PORT if tls else SUBMISSION_PORT),
            tls,
            password_in_clear,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
        )

    @property
    def start_tls(self) -> bool | None:
        """Whether a connection in the clear has to turn to TLS: True, or None for as soon as the server offers it."""
        if self.tls:
            return False
        return None if self.password is None or self.password_in_clear else True


async def send(
    server: MailServer, message: EmailMessage, sender: str, recipient: str
) -> tuple[Delivery, str]:
    """Hand a message over; return what became of it, and a word about that without any address in it."""
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.user,
        password=server.password,
        local_hostname=sender.rpartition("@")[2],
        use_tls=server.tls,
        start_tls=server.start_tls,
        timeout=LIMIT_S / 2,
    )
    handed_over = False
    try:
        async with asyncio.timeout(LIMIT_S):
            await client.connect()
            await client.mail(sender)
            await client.rcpt(recipient)
            handed_over = True
            await client.data(message.as_bytes(policy=WIRE))
        with suppress(OSError, aiosmtplib.SMTPException):
            await client.quit(timeout=1)
    except aiosmtplib.SMTPResponseException as error:
        return _answered(error, handed_over)
    except (OSError, aiosmtplib.SMTPException) as error:
        return (Delivery.UNCLEAR if handed_over else Delivery.NOT_TAKEN), type(error).__name__
    finally:
        client.close()
    return Delivery.SENT, "taken"


def _answered(error: aiosmtplib.SMTPResponseException, handed_over: bool) -> tuple[Delivery, str]:
    """Return what a server's answer means. Its text may hold the recipient, so only the code is told."""
    word = f"{type(error).__name__} {error.code}"
    if not _REFUSED_FOR_NOW <= error.code < _NO_ANSWER_ANY_MORE:
        # No plain no: a cut connection and an unreadable answer look like this.
        return (Delivery.UNCLEAR if handed_over else Delivery.NOT_TAKEN), word
    # A refused greeting or login is about us, not about the mail: the next try may find it mended.
    is_about_the_mail = isinstance(
        error, aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError
    )
    is_final = error.code >= _REFUSED_FOR_GOOD and is_about_the_mail
    return (Delivery.REFUSED if is_final else Delivery.NOT_TAKEN), word

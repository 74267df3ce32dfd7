"""A real mail server for tests: it keeps what it takes, and refuses or hangs up as told by the recipient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from tests.support import ports


@dataclass
class Inbox:
    """What came in. The recipient's name decides: `later2@` is refused for now twice, `never@` for good,

    `full@` for good after the content, `cut@` taken, but the connection ends before the answer.
    """

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Answer to a recipient."""
        name = address.partition("@")[0]
        self.tries[address] = self.tries.get(address, 0) + 1
        if name == "never":
            return "550 no such person"
        if name.startswith("later") and self.tries[address] <= int(name.removeprefix("later")):
            return "451 try again"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Answer to a message."""
        [address] = envelope.rcpt_tos
        if address.startswith("full@"):
            return "552 mailbox full"
        self.taken.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(address)
        if address.startswith("cut@"):
            server.transport.abort()
        return "250 taken"

    async def until(self, what: Any) -> None:
        """Return when `what()` holds. Raises TimeoutError after 30 s."""
        async with asyncio.timeout(30):
            while not what():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def inbox(**options: Any) -> AsyncIterator[Inbox]:
    """Run the server on a free port of this machine."""
    box = Inbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="mail.example", **options), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()


class _NoRecipient:
    """Refuses every recipient for good."""

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: Any, _session: Any, _envelope: Any, _address: str, _options: Any
    ) -> str:
        """Answer to a recipient."""
        return "550 no such person"


@contextmanager
def refusing() -> Iterator[str]:
    """Run, in a thread, a server that takes no mail for anybody; yield its URL."""
    controller = Controller(_NoRecipient(), hostname="127.0.0.1", port=ports.free())
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{controller.port}"
    finally:
        controller.stop()

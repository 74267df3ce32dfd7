"""Send one message to one URL, and say whether its receiver has taken it.

Owns: the connection and to which addresses one is made, time limits, the headers, and what each answer means.
Called by: `webhook/partition.py`. A URL is never logged: it may hold a secret.

The address is checked where the connection is made, and the connection goes to that very address: the name is looked
up once, so that a name that stands for another address the next moment (DNS rebinding) changes nothing. Redirections
are not followed, no proxy of the environment is used, and no more of an answer is read than its head.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpcore2

from pipeline.accounts.notices import WebhookMessage
from pipeline.accounts.webhooks import InternetAddress, is_public
from pipeline.webhook.message import body_of
from pipeline.webhook.protocol import TOGETHER, Attempted
from pipeline.webhook.signing import secret_of, sign

LIMIT_S = 15.0
"""For one try in all: name, connection, TLS, and the head of the answer."""
HTTPS_PORT = 443
_OK_FROM, _OK_UP_TO, _GONE = 200, 300, 410
USER_AGENT = "bharatrouter-metering"


class ForbiddenAddressError(OSError):
    """A host stands for no address of the public internet: there is nothing to connect to."""


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host, as texts, for a port. Raises OSError where it has none."""


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host as the system finds them, each once. Raises OSError where there are none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no host can have such a name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedConnections(httpcore2.AsyncNetworkBackend):
    """Makes connections to allowed addresses alone. A name is looked up here, once, and what was found is connected to."""

    def __init__(self, allowed: Callable[[InternetAddress], bool], resolve: Resolve) -> None:
        """Prepare; `resolve` finds a host's addresses, `allowed` says of one whether it may be connected to."""
        self._allowed, self._resolve = allowed, resolve
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first allowed address of a host that takes it. Raises ForbiddenAddressError where none is."""
        allowed = [each for each in await self._resolve(host, port) if self._may_connect(each)]
        if not allowed:
            raise ForbiddenAddressError("no address of the public internet")
        for address in allowed[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(allowed[-1], port, timeout, local_address, socket_options)

    def _may_connect(self, address: str) -> bool:
        # A link-local address carries the name of an interface after a percent sign.
        return "%" not in address and self._allowed(ip_address(address))


class WebhookClient:
    """Sends messages over https. `close` it at the end."""

    def __init__(
        self,
        server_secret: str,
        now_s: Callable[[], int],
        *,
        allowed: Callable[[InternetAddress], bool] = is_public,
        resolve: Resolve = resolve_host,
        tls: ssl.SSLContext | None = None,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Prepare; nothing is connected before the first message. `server_secret` is what org's secrets are drawn from.

        `allowed`, `resolve` and `tls` are what a test gives that has its receiver on its own machine; no setting does.
        """
        self._server_secret, self._now_s, self._limit_s = server_secret, now_s, limit_s
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=TOGETHER,
            max_keepalive_connections=0,
            network_backend=CheckedConnections(allowed, resolve),
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.aclose()

    async def send(self, message: WebhookMessage) -> tuple[Attempted, str]:
        """Send a message; return what became of it, and a word about that without the URL in it."""
        try:
            async with asyncio.timeout(self._limit_s):
                status = await self._post(message)
        except (
            OSError,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
        ) as error:
            return Attempted.NOT_TAKEN, type(error).__name__
        if _OK_FROM <= status < _OK_UP_TO:
            return Attempted.TAKEN, str(status)
        return (Attempted.GONE if status == _GONE else Attempted.NOT_TAKEN), str(status)

    async def _post(self, message: WebhookMessage) -> int:
        parts = urlsplit(message.url)
        host = (parts.hostname or "").encode()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        body, at_s = body_of(message), self._now_s()
        secret = secret_of(self._server_secret, message.org, message.nonce)
        headers = [
            ("Host", parts.netloc),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", USER_AGENT),
            ("webhook-id", message.id),
            ("webhook-timestamp", str(at_s)),
            ("webhook-signature", sign(secret, message.id, at_s, body)),
        ]
        url = httpcore2.URL(scheme=b"https", host=host, port=parts.port or HTTPS_PORT, target=target.encode())
        async with self._pool.stream("POST", url, headers=headers, content=body) as answer:
            status: int = answer.status
            return status

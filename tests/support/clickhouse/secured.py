"""ClickHouse's HTTP interface over TLS, with one user and what that one lacks, in front of the real engine.

Owns: who is let in, and the server's own words to those who are not. Called by: tests/integration/test_clickhouse_secured.py.
"""

from __future__ import annotations

import base64
import re
import ssl
from email.message import Message

from tests.support.clickhouse.front import Answer, Front
from tests.support.secured.certificates import Authority, Identity

USER, PASSWORD = "meter", "p@ss"


class SecuredFront(Front):
    """A server that shows a certificate and knows one user; `lacks` is a grant it has not, and what statements need it."""

    def __init__(self, path: str, shown: Identity, asks_certificate_of: Authority | None = None) -> None:
        """Listen on a free port. With `asks_certificate_of` clients have to show a certificate of that authority."""
        super().__init__(path)
        self.lacks: tuple[str, str] | None = None
        self._asks_certificate = asks_certificate_of is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.certificate, shown.key)
        if asks_certificate_of is not None:
            context.load_verify_locations(asks_certificate_of.file)
            context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def refusal(self, headers: Message, body: bytes) -> Answer | None:
        """Return the server's words to a stranger, and to the user who lacks what the statement needs."""
        by_password = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        by_certificate = self._asks_certificate and headers["X-ClickHouse-SSL-Certificate-Auth"] == "on"
        if not by_certificate and headers["Authorization"] != by_password:
            return (
                403,
                516,
                b"Code: 516. DB::Exception: meter: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)",
            )
        if self.lacks is not None and re.match(self.lacks[1].encode(), body):
            return (
                403,
                497,
                f"Code: 497. DB::Exception: {USER}: Not enough privileges. To execute this query, it's necessary to have the "
                f"grant {self.lacks[0]}. (ACCESS_DENIED) (version 26.9.1.1)".encode(),
            )
        return None

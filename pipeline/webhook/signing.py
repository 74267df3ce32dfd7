"""Sign webhooks by the Standard Webhooks specification (https://www.standardwebhooks.com), version 1, symmetric.

Owns: the secret of an org's webhook, as bytes and as text, and the signature over a message. Pure.
Called by: `webhook/sending.py` for each attempt, `api/routes/notices.py` to show an owner the secret.

A secret is never kept. It is drawn from the servers' own secret, the org, and a random nonce in the org's profile: only
who knows the servers' secret can draw it, so that a copy of the topics signs nothing. A new servers' secret makes a new
one of every webhook.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with


def secret_of(server_secret: str, org: str, nonce: str) -> bytes:
    """Return the 32 bytes that sign what is sent to an org."""
    return hmac.digest(server_secret.encode(), f"webhook\0{org}\0{nonce}".encode(), hashlib.sha256)


def secret_text(secret: bytes) -> str:
    """Return a secret as its receiver is given it: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def sign(secret: bytes, message_id: str, at_s: int, body: bytes) -> str:
    """Return the header `webhook-signature`: `v1,` and the HMAC-SHA256, in base64, of `id.timestamp.body`.

    `at_s` is the time of the attempt in seconds since 1970, which the header `webhook-timestamp` has too.
    """
    signed = b".".join((message_id.encode(), str(at_s).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()

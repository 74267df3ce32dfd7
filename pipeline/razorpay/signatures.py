"""What Razorpay signs, and how to tell that it did.

Owns: the two signatures: of the checkout's callback with the key secret, of a webhook's body with the
webhook secret.
Called by: `api/routes/orders.py`, `api/routes/webhooks.py`, and the stand-in, which signs.

A signature shows who speaks, not that money came: credit follows a captured payment alone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable


def sign(message: bytes, secret: str) -> str:
    """Return the HMAC-SHA256 of a message in hex."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def sign_callback(order_id: str, payment_id: str, secret: str) -> str:
    """Return the signature that Checkout hands to the page with a payment."""
    return sign(f"{order_id}|{payment_id}".encode(), secret)


def is_callback_signed(order_id: str, payment_id: str, signature: str, secret: str) -> bool:
    """Whether Razorpay signed this payment of this order; `order_id` must be the one that is stored."""
    return _equal(sign_callback(order_id, payment_id, secret), signature)


def is_webhook_signed(body: bytes, signature: str, secrets: Iterable[str]) -> bool:
    """Whether a webhook's raw body was signed with one of the secrets: two are in force while rotating."""
    # Every secret is tried, so that the time taken does not tell which one it was.
    return sum(_equal(sign(body, secret), signature) for secret in secrets if secret) > 0


def _equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode(errors="replace"))

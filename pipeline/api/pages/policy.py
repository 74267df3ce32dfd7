"""What a page may load, and from where: the Content-Security-Policy of each.

Called by: `api/routes/pages.py`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

_RAZORPAY = ".razorpay.com"


def plain_policy() -> str:
    """Return the policy of a page that loads our own files and nothing else."""
    return _policy(script="", attributes="", others="")


def checkout_policy(checkout_url: str) -> str:
    """Return the policy of a page that may open Razorpay's Checkout, or a stand-in at another address."""
    parts = urlsplit(checkout_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    # Checkout opens a frame of another host of Razorpay's, and reports to a third.
    others = f"https://*{_RAZORPAY}" if (parts.hostname or "").endswith(_RAZORPAY) else origin
    # It also writes `style` attributes into the elements of its overlay. Style sheets stay our own alone: by them a
    # text that got into the page as markup could cover it, or send what is typed in to elsewhere.
    return _policy(script=f" {origin}", attributes="; style-src-attr 'unsafe-inline'", others=f" {others}")


def _policy(*, script: str, attributes: str, others: str) -> str:
    frames = f"frame-src{others}; " if others else ""
    return (
        f"default-src 'none'; script-src 'self'{script}; style-src 'self'{attributes}; img-src 'self' data:{others}; "
        f"connect-src 'self'{others}; {frames}form-action 'self'{others}; base-uri 'none'; frame-ancestors 'none'"
    )

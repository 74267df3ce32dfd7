"""What a page may load, and from where: the Content-Security-Policy of each.

Called by: `api/routes/pages.py`, `api/pages/rendering.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

_CHECKOUT, _API = "https://checkout.razorpay.com", "https://api.razorpay.com"
_RAZORPAY: Mapping[str, tuple[str, ...]] = {
    # checkout.js adds a second script to our page, which watches for fraud: without it Razorpay may decline payments.
    "script-src": (_CHECKOUT, "https://cdn.razorpay.com"),
    "frame-src": (_API, _CHECKOUT),
    # The API, and three hosts to which the script reports how the payment goes.
    "connect-src": (
        _API,
        "https://lumberjack.razorpay.com",
        "https://lumberjack-cx.razorpay.com",
        "https://lumberjack-metrics.razorpay.com",
    ),
    "img-src": ("https://cdn.razorpay.com",),
    # Where a browser can show no frame, the script sends the payer on with a form.
    "form-action": (_API,),
}
"""The hosts that Checkout needs in the page that opens it, each where it needs it.

Razorpay has no document of them. They are the list of its own plug-in for Magento (`etc/csp_whitelist.xml` of
razorpay/razorpay-magento, June 2026), and what public programs say that checkout.js asks: the API, `lumberjack-cx`, and
the frame's second host. The real Checkout was not tried with it. What the frame loads is ruled by the frame's own policy. Checkout also asks the browser to fetch
the frame's scripts ahead (`checkout-static-next.razorpay.com`): that is refused, and only costs a moment.
"""


def plain_policy() -> str:
    """Return the policy of a page that loads our own files and nothing else."""
    return _policy({}, attributes="")


def checkout_policy(checkout_url: str) -> str:
    """Return the policy of a page that may open Razorpay's Checkout, or a stand-in at another address."""
    parts = urlsplit(checkout_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    hosts = _RAZORPAY if origin == _CHECKOUT else dict.fromkeys(_RAZORPAY, (origin,))
    # It also writes `style` attributes into the elements of its overlay. Style sheets stay our own alone: by them a
    # text that got into the page as markup could cover it, or send what is typed in to elsewhere.
    return _policy(hosts, attributes="; style-src-attr 'unsafe-inline'")


def _policy(hosts: Mapping[str, tuple[str, ...]], *, attributes: str) -> str:
    more = {name: "".join(f" {host}" for host in hosts.get(name, ())) for name in _RAZORPAY}
    frames = f"frame-src{more['frame-src']}; " if more["frame-src"] else ""
    return (
        f"default-src 'none'; script-src 'self'{more['script-src']}; style-src 'self'{attributes}; "
        f"img-src 'self' data:{more['img-src']}; connect-src 'self'{more['connect-src']}; {frames}"
        f"form-action 'self'{more['form-action']}; base-uri 'none'; frame-ancestors 'none'"
    )

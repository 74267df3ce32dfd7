"""Which address an org may have its notices sent to.

Owns: the rule for the URL, and which internet addresses a server may be asked to connect to for somebody else.
Called by: `accounts/notice_choices.py` when an org sets the address; `webhook/sending.py` at each connection, with the
address that the name stands for at that moment.

A server inside a private network that sends what it is told to where it is told to is a way into that network
(server-side request forgery). So nothing but https leaves, and only to addresses of the public internet.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

URL_LENGTH_MAX = 500
_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last four bytes are an IPv4 address, which a translator on the way connects to."""

InternetAddress = IPv4Address | IPv6Address


def is_public(address: InternetAddress) -> bool:
    """Whether an address is one host of the public internet, whichever way it is written down in IPv6.

    Not so: private, loopback, link-local (where clouds keep credentials), shared, reserved, multicast, unspecified.
    """
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


def _inner(address: InternetAddress) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to: mapped, 6to4, Teredo or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def url_problem(url: str) -> str | None:  # noqa: PLR0911 - one case a problem
    """Return what keeps a URL from being an address for notices, None where nothing does.

    A name is not looked up here: what it stands for may be another address at any moment.
    """
    if len(url) > URL_LENGTH_MAX:
        return f"the url has more than {URL_LENGTH_MAX} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "the url holds characters that a URL does not have"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "the url is none"
    if parts.scheme != "https":
        return "the url must begin with https://"
    if parts.username is not None or parts.password is not None:
        return "the url must not hold a user or a password"
    if parts.fragment or url.endswith("#"):
        return "the url must not have a fragment"
    if not host or port == 0:
        return "the url names no host"
    return _host_problem(host)


def _host_problem(host: str) -> str | None:
    try:
        address = ip_address(host)
    except ValueError:
        is_local = host in ("localhost", "localhost.") or host.endswith((".localhost", ".local", ".internal"))
        return "the url names no host of the public internet" if is_local or "." not in host else None
    return None if is_public(address) else "the url names no address of the public internet"


def host_of(url: str) -> str:
    """Return the host of a URL that has one, and the port where it is named."""
    return urlsplit(url).netloc

"""Which network address a request counts for, and which addresses are those of our own proxies.

Called by: `api/http/bounded_connection.py`, `api/http/edge.py`, `api/routes/health.py`, `api/server/main.py`.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers

IPV6_PREFIX = 64
"""One customer of a network has at least so many bits of an IPv6 address to choose from: they count as one."""


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: addresses and networks (`10.0.0.0/8`), after commas."""

    def __init__(self, text: str) -> None:
        """Read the setting. Raises ValueError for what is no address and no network."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        self._networks = [ipaddress.ip_network(part) for part in parts]

    def trusts(self, address: str) -> bool:
        """Whether an address is one of theirs."""
        if not self._networks:
            return False
        peer = _parsed(address)
        return peer is not None and any(peer in network for network in self._networks)


def counted_as(address: str) -> str:
    """Return the name under which an address is counted: itself, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    peer = _parsed(address)
    if isinstance(peer, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(peer), IPV6_PREFIX), strict=False))
    return address if peer is None else str(peer)


def is_near(address: str, headers: Headers) -> bool:
    """Whether a request comes from this machine or a private network, and straight: through no proxy."""
    if "x-forwarded-for" in headers or "forwarded" in headers:
        return False
    peer = _parsed(address)
    return peer is not None and (peer.is_loopback or peer.is_private)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address without its zone; None for what is none.

    A socket for both families names an IPv4 address `::ffff:192.0.2.1`. All of these are in one /64, which Python
    before 3.13 calls private: it is the IPv4 address inside that counts.
    """
    try:
        peer = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (peer.ipv4_mapped or peer) if isinstance(peer, ipaddress.IPv6Address) else peer

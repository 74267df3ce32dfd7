"""The Merkle tree of a day over all orgs, and the path from one org to its root. Pure.

Owns: where an org stands in the tree, what its leaf is, and what stands where there is no org.
Called by: `notary/kept.py` makes trees; `notary/check.py` climbs a path. docs/statements.md specifies the bytes.

A path shows hashes of what stands beside it, and must tell nothing of other orgs. So each day has a secret of its own, of which
come: a blind in each leaf, so that no leaf can be guessed, nor compared with the leaf of another day; the place of each org; and
what looks like a hash where there is no org. The tree has 2^24 places on every day, however many orgs there are.

As a tree is built and read in parts, a day's orgs are kept in chunks of neighbours: a chunk is a subtree.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec
from msgspec import Struct

from pipeline.notary.chain import OrgState

DEPTH = 24
ORGS_MAX = 2 ** (DEPTH - 1)
"""A place is looked for until a free one is found, which must not take long."""
CHUNK_ORGS = 256
"""About so many orgs are in a chunk."""
NODE_TAG, LEAF_TAG = b"\x01", b"\x02"

_encode = msgspec.json.Encoder().encode


class TooManyOrgsError(Exception):
    """More orgs than a tree has room for."""


class Placed(Struct, frozen=True, array_like=True):
    """An org at its place in a day's tree, and what is known of it at the day's end."""

    place: int
    org: str
    state: OrgState


class OrgPath(Struct, frozen=True):
    """The way from an org's leaf to the root of a day: its place, its blind, and the hash beside it at each level, lowest first."""

    place: int
    blind: bytes
    beside: tuple[bytes, ...]


def day_secret(seed: bytes, day: int) -> bytes:
    """Return the secret of a day, of the 32 bytes that the notary's key is made of."""
    return hmac.digest(seed, b"day %d" % day, "sha256")


def leaf(org: str, state: OrgState, blind: bytes) -> bytes:
    """Return the leaf of an org."""
    return sha256(
        LEAF_TAG + blind + _encode([org, state.rows, state.balance_nano, state.hash.hex()])
    ).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return what stands above two neighbours."""
    return sha256(NODE_TAG + left + right).digest()


def climbed(start: bytes, place: int, beside: Iterable[bytes]) -> bytes:
    """Return the root that a leaf at a place leads to, by the hash beside it at each level, lowest first."""
    at = start
    for other in beside:
        at = node(other, at) if place & 1 else node(at, other)
        place >>= 1
    return at


def blind_of(secret: bytes, org: str) -> bytes:
    """Return what is hashed into an org's leaf on a day, so that nobody can guess the rest."""
    return hmac.digest(secret, b"leaf " + org.encode(), "sha256")


def place_of(secret: bytes, org: str, attempt: int) -> int:
    """Return the place that an org takes on a day if it is free at its turn, at the first attempt (0) or a later one."""
    found = hmac.digest(secret, b"place %d " % attempt + org.encode(), "sha256")
    return int.from_bytes(found[:4]) >> (32 - DEPTH)


def placed(secret: bytes, states: Mapping[str, OrgState]) -> list[Placed]:
    """Return the orgs of a day at their places, in the order of these. Raises TooManyOrgsError."""
    if len(states) > ORGS_MAX:
        raise TooManyOrgsError(f"{len(states)} orgs, and a tree has room for {ORGS_MAX}")
    taken: dict[int, str] = {}
    for org in sorted(states):
        attempt = 0
        while (place := place_of(secret, org, attempt)) in taken:
            attempt += 1
        taken[place] = org
    return [Placed(place, org, states[org]) for place, org in sorted(taken.items())]


def chunk_bits_for(orgs: int) -> int:
    """Return into how many chunks, as a power of two, the orgs of a day are divided."""
    return max(0, (orgs // CHUNK_ORGS).bit_length())


def chunk_of(place: int, bits: int) -> int:
    """Return the chunk that a place is in."""
    return place >> (DEPTH - bits)


def in_chunks(orgs: Iterable[Placed], bits: int) -> list[list[Placed]]:
    """Return the orgs of each of the 2^bits chunks, which are given in the order of their places."""
    chunks: list[list[Placed]] = [[] for _ in range(2**bits)]
    for each in orgs:
        chunks[chunk_of(each.place, bits)].append(each)
    return chunks


def chunk_root(secret: bytes, chunk: Iterable[Placed], bits: int) -> bytes | None:
    """Return the root of a chunk's subtree; None for one without orgs."""
    nodes, _ = _climb(secret, _leaves(secret, chunk), range(DEPTH - bits))
    return next(iter(nodes.values()), None)


def root_of(secret: bytes, roots: Mapping[int, bytes], bits: int) -> bytes:
    """Return the root of a day's tree, of the roots of the chunks that have orgs."""
    nodes, _ = _climb(secret, dict(roots), range(DEPTH - bits, DEPTH))
    return nodes.get(0) or _filler(secret, DEPTH, 0)


def path_of(
    secret: bytes, org: Placed, chunk: Iterable[Placed], roots: Mapping[int, bytes], bits: int
) -> OrgPath:
    """Return the path of an org, of all orgs of its chunk and the roots of all chunks that have orgs."""
    _, lower = _climb(secret, _leaves(secret, chunk), range(DEPTH - bits), org.place)
    _, upper = _climb(secret, dict(roots), range(DEPTH - bits, DEPTH), chunk_of(org.place, bits))
    return OrgPath(org.place, blind_of(secret, org.org), (*lower, *upper))


def _leaves(secret: bytes, orgs: Iterable[Placed]) -> dict[int, bytes]:
    return {each.place: leaf(each.org, each.state, blind_of(secret, each.org)) for each in orgs}


def _filler(secret: bytes, level: int, index: int) -> bytes:
    """Return what stands where there is no org below: without the secret, nobody can tell it from a hash of some."""
    return hmac.digest(secret, b"none %d %d" % (level, index), "sha256")


def _climb(
    secret: bytes, nodes: dict[int, bytes], levels: range, follow: int | None = None
) -> tuple[dict[int, bytes], list[bytes]]:
    """Return the nodes above the given ones, by index, after some levels; and what stands beside `follow` at each of them."""
    beside: list[bytes] = []
    for level in levels:
        if follow is not None:
            beside.append(nodes.get(follow ^ 1) or _filler(secret, level, follow ^ 1))
            follow >>= 1
        above: dict[int, bytes] = {}
        for index, value in nodes.items():
            if index >> 1 not in above:
                other = nodes.get(index ^ 1) or _filler(secret, level, index ^ 1)
                above[index >> 1] = node(other, value) if index & 1 else node(value, other)
        nodes = above
    return nodes, beside

"""HTTP requests as broken or hostile clients write them, byte by byte: whole ones, spoilt in every part.

Owns: the ways of spoiling. Everything follows from the random numbers it is given, so a seed names a run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.fuzz import absurd_http as absurd
from tests.fuzz.spoilt import ABSURD, TOKENS


@dataclass(frozen=True)
class RawRequest:
    """What is sent over one connection, in pieces.

    `whole`: so many requests come first that are requests as HTTP has them, and each has to be answered whatever it
    asks for.
    """

    pieces: Sequence[bytes]
    whole: int
    what: str


@dataclass(frozen=True)
class Routes:
    """What there is to ask for, and how one signs in."""

    verbs: Sequence[tuple[str, str]]
    """(verb, path template) of every route."""
    bodies: Mapping[tuple[str, str], object]
    """What a route takes, where that is known."""
    parameters: Sequence[str]
    ids: Sequence[str]
    """Of keys, orders and requests that exist, for the paths."""
    sessions: Sequence[bytes]
    """Header lines that sign in."""


class Maker:
    """Makes requests by a seed."""

    def __init__(self, seed: int, routes: Routes) -> None:
        """Start with the first of the seed."""
        self._rng = random.Random(seed)
        self._routes = routes

    def make(self) -> RawRequest:
        """Return the next request."""
        rng, what = self._rng, self._rng.random()
        if what < 0.04:
            data = rng.choice(absurd.OTHER_PROTOCOLS) if what < 0.03 else rng.randbytes(rng.randrange(1, 200))
            return RawRequest([data], 0, "another protocol")
        if what < 0.40:
            return RawRequest(self._pieces(self._whole()), 1, "absurd values")
        if what < 0.47:
            count = rng.randint(2, 4)
            ahead = b"".join(self._whole() for _ in range(count))
            spoilt = rng.choice((b"", rng.choice(absurd.OTHER_PROTOCOLS), self._changed(self._whole())))
            return RawRequest(self._pieces(ahead + spoilt), count, "several on one connection")
        method, path = rng.choice(self._routes.verbs)
        target, lines, body = self._target(path), self._headers(), self._body(method, path)
        framing, name = _framing(body), "absurd framing"
        if what < 0.60:
            name = "an absurd first line"
            method, target = rng.choice(absurd.METHODS), rng.choice((*absurd.TARGETS, target))
        elif what < 0.75:
            name = "absurd headers"
            lines += rng.choices(absurd.HEADERS, k=rng.randint(1, 3))
        elif what < 0.82:
            framing = [rng.choice(absurd.FRAMINGS)]
        elif what < 0.87:
            framing, body = [b"Transfer-Encoding: chunked"], rng.choice(absurd.CHUNKED)
        else:
            return RawRequest(self._pieces(self._changed(self._whole())), 0, "changed bytes")
        version = rng.choice(absurd.VERSIONS).encode()
        data = _request(method, target, version, [*lines, *framing], body)
        return RawRequest(self._pieces(data), 0, name)

    def _whole(self) -> bytes:
        """Return a request as HTTP has it, with values that make no sense."""
        method, path = self._rng.choice(self._routes.verbs)
        body = self._body(method, path)
        lines = [*self._headers(), *_framing(body)]
        return _request(method, self._target(path), b"HTTP/1.1", lines, body)

    def _target(self, path: str) -> str:
        """Fill a path's parameters, and ask for something: mostly what makes no sense."""
        rng = self._rng
        known = [part if not part.startswith("{") else self._quoted(6000) for part in path.split("/")]
        target = "/".join(known)
        if rng.random() < 0.4:
            names = rng.choices((*self._routes.parameters, "token", "x", "", "%00"), k=2)
            target += "?" + "&".join(f"{name}={self._quoted(3000)}" for name in names)
        return target

    def _quoted(self, most: int) -> str:
        text = self._rng.choice((*self._routes.ids, *absurd.TEXTS))
        return quote(text, safe="%", errors="replace")[:most]

    def _headers(self) -> list[bytes]:
        rng = self._rng
        lines = [b"Host: metering.example"] if rng.random() < 0.95 else []
        if rng.random() < 0.9:
            lines.append(rng.choice(self._routes.sessions))
        if rng.random() < 0.6:
            lines.append(b"Content-Type: application/json")
        if rng.random() < 0.2:
            lines.append(b"Idempotency-Key: k%d" % rng.randrange(50))
        return lines

    def _body(self, method: str, path: str) -> bytes:
        """Return a body for a route: its own with something absurd in it, or something else."""
        rng, known = self._rng, self._routes.bodies.get((method, path))
        if known is None and rng.random() < 0.7:
            return b""
        if not isinstance(known, dict) or rng.random() < 0.3:
            return rng.choice(absurd.BODIES)
        fields: dict[str, Any] = dict(known)
        for name in rng.sample(sorted(fields), min(len(fields), rng.randrange(3))):
            fields[name] = rng.choice((*ABSURD, *absurd.TEXTS))
        if rng.random() < 0.1:
            fields[rng.choice(absurd.TEXTS)] = 1
        return json.dumps(fields, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")

    def _changed(self, data: bytes) -> bytes:
        """Return bytes with some of them lost, doubled or exchanged."""
        rng, changed = self._rng, bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed) + 1)
            bits = (*TOKENS, *absurd.BITS)
            put = rng.choice(bits) if rng.random() < 0.6 else rng.randbytes(rng.randrange(4))
            changed[at : at + rng.randrange(6)] = put
        if rng.random() < 0.2:
            del changed[rng.randrange(len(changed) + 1) :]
        return bytes(changed) or b"\0"

    def _pieces(self, data: bytes) -> list[bytes]:
        """Cut what is sent as a network may: mostly not at all."""
        if self._rng.random() < 0.85 or len(data) < 3:
            return [data]
        at = self._rng.randrange(1, len(data))
        return [data[:at], data[at:]]


def _framing(body: bytes) -> list[bytes]:
    return [b"Content-Length: %d" % len(body)] if body else []


def _request(method: str, target: str, version: bytes, lines: Sequence[bytes], body: bytes) -> bytes:
    first = b" ".join([method.encode("latin-1", "replace"), target.encode("utf-8", "replace"), version])
    return b"\r\n".join([first, *lines, b"", body])

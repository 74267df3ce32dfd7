"""Which rate of a route was in force at an instant.

Owns: the rate, its record on `metering.catalog`, and the table of all of them.
Called by: `posting/requests.py` for each paid request, the API (`/v1/catalog`, rankings), `catalog/apply.py`.

Rates never change once they are in force, so any reader that has reached a record's offset agrees with
every other about all instants before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

RATE_MAX_NANO = 100_000_000
"""100,000 rupees per million tokens, twice the dearest model: the largest cost stays far within Int64."""

RateNano = Annotated[int, Meta(ge=0, le=RATE_MAX_NANO)]
Route = tuple[str, str]
"""(model, provider)."""


class Rate(Struct, frozen=True, gc=False):
    """One route's prices from `from_ms` on, in nano-rupees a token."""

    model: str
    provider: str
    from_ms: int
    input_nano: RateNano
    cached_nano: RateNano
    output_nano: RateNano

    @property
    def route(self) -> Route:
        """The (model, provider) this rate is for."""
        return (self.model, self.provider)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Rate).decode
_decode_key = msgspec.json.Decoder(tuple[str, str, int]).decode


def encode_rate(rate: Rate) -> tuple[bytes, bytes]:
    """Return the key and value of a rate's record; the key is the route and start, so it compacts."""
    return _encode([rate.model, rate.provider, rate.from_ms]), _encode(rate)


def decode_rate(value: bytes) -> Rate:
    """Return the rate of a record's value. Raises msgspec.MsgspecError for anything else."""
    return _decode(value)


def decode_rate_key(key: bytes) -> tuple[Route, int]:
    """Return the route and the start in milliseconds of a record's key. Raises msgspec.MsgspecError."""
    model, provider, from_ms = _decode_key(key)
    return (model, provider), from_ms


class RateTable:
    """All rates known, by route, newest first."""

    def __init__(self) -> None:
        """Start with no rate."""
        self._by_route: dict[Route, tuple[Rate, ...]] = {}

    def add(self, rate: Rate) -> None:
        """Take in a rate; one with the same route and start replaces the earlier one."""
        others = [r for r in self._by_route.get(rate.route, ()) if r.from_ms != rate.from_ms]
        self._by_route[rate.route] = tuple(sorted([*others, rate], key=lambda r: -r.from_ms))

    def remove(self, route: Route, from_ms: int) -> None:
        """Take a rate out, if it is there: it was withdrawn before it was ever in force."""
        left = tuple(rate for rate in self._by_route.get(route, ()) if rate.from_ms != from_ms)
        if left:
            self._by_route[route] = left
        else:
            self._by_route.pop(route, None)

    def in_force(self, model: str, provider: str, at_ms: int) -> Rate | None:
        """Return the route's rate in force at an instant, or None where there is none."""
        for rate in self._by_route.get((model, provider), ()):
            if rate.from_ms <= at_ms:
                return rate
        return None

    def of_route(self, route: Route) -> tuple[Rate, ...]:
        """Return all rates of a route, newest first."""
        return self._by_route.get(route, ())

    def models_in_force(self, at_ms: int) -> set[str]:
        """Return the models that have a rate in force at an instant: the catalog's models."""
        return {rate.model for rate in self if rate.from_ms <= at_ms}

    def current_and_announced(self, at_ms: int) -> list[Rate]:
        """Return, for each route, the rate in force at an instant and all later ones, in route order."""
        shown = []
        for route in sorted(self._by_route):
            rates = self._by_route[route]
            in_force = self.in_force(*route, at_ms)
            shown += [r for r in reversed(rates) if r.from_ms > at_ms or r is in_force]
        return shown

    def __iter__(self) -> Iterator[Rate]:
        """Iterate over all rates."""
        for rates in self._by_route.values():
            yield from rates

"""The form of a rate on `metering.catalog`, which is kept for ever.

Owns: its key, its formats, and what a reader does with one that it does not know.
Called by: `kafka/catalog.py`. Next: `catalog/rates.py`.

Format 1 has the prices of input, cached input and output, and names no format. Format 2 has them by class, a fee
and tiers. A rate is written in the lowest format that can say it, so that workers of the release before go on
reading it while they are replaced. A format or a class of tokens that this release does not know is refused:
charging by a part of a rate would charge a wrong sum, without a word.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, structs

from pipeline.catalog.rates import Rate, RateNano, Route, Tier, price_fields, prices_by_class
from pipeline.formats import RATES, NewerFormatError, number_of
from pipeline.usage import CLASSES


class _First(Struct):
    """Format 1."""

    model: str
    provider: str
    from_ms: int
    input_nano: RateNano
    cached_nano: RateNano
    output_nano: RateNano


class _Tier(Struct):
    above_prompt_tokens: int
    prices: dict[str, RateNano]


class _Second(Struct):
    """Format 2: `prices` and those of tiers are nano-rupees a token by class, each class named."""

    format: int
    model: str
    provider: str
    from_ms: int
    prices: dict[str, RateNano]
    request_nano: int = 0
    tiers: list[_Tier] = []


_encode = msgspec.json.Encoder().encode
_decode_key = msgspec.json.Decoder(tuple[str, str, int]).decode
_decode_first = msgspec.json.Decoder(_First).decode
_decode_second = msgspec.json.Decoder(_Second).decode


def encode_rate(rate: Rate) -> tuple[bytes, bytes]:
    """Return the key and value of a rate's record; the key is the route and start, so it compacts."""
    key = _encode([rate.model, rate.provider, rate.from_ms])
    route = (rate.model, rate.provider, rate.from_ms)
    first = _First(*route, rate.input_nano, rate.cached_nano, rate.output_nano)
    if _rate_of_first(first) == rate:
        return key, _encode(first)
    tiers = [_Tier(tier.above_prompt_tokens, prices_by_class(tier)) for tier in rate.tiers]
    return key, _encode(_Second(RATES.number, *route, prices_by_class(rate), rate.request_nano, tiers))


def decode_rate(value: bytes) -> Rate:
    """Return the rate of a record's value.

    Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError where it is no rate.
    """
    number = number_of(value)
    RATES.check(number)
    if number == 1:
        return _rate_of_first(_decode_first(value))
    found = _decode_second(value)
    tiers = [
        msgspec.convert({"above_prompt_tokens": tier.above_prompt_tokens, **_prices(tier.prices)}, Tier)
        for tier in found.tiers
    ]
    fields = {"model": found.model, "provider": found.provider, "from_ms": found.from_ms}
    fields |= {"request_nano": found.request_nano, "tiers": tuple(tiers)}
    return msgspec.convert({**fields, **_prices(found.prices)}, Rate)


def decode_rate_key(key: bytes) -> tuple[Route, int]:
    """Return the route and the start in milliseconds of a record's key. Raises msgspec.MsgspecError."""
    model, provider, from_ms = _decode_key(key)
    return (model, provider), from_ms


def _rate_of_first(first: _First) -> Rate:
    return Rate(**structs.asdict(first))


def _prices(by_class: dict[str, int]) -> dict[str, Any]:
    """Return the price fields of a rate or tier from prices by class.

    Input and output are always there; a class that a release before did not know costs what its whole does.
    """
    unknown = by_class.keys() - set(CLASSES)
    if unknown:
        raise NewerFormatError(
            f"a rate with a price for {', '.join(sorted(unknown))}: this release knows no such class"
        )
    if not by_class.keys() >= {"input", "output"}:
        raise msgspec.ValidationError("a rate has prices for input and output")
    return price_fields(by_class)

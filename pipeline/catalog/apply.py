"""Read a catalog file, and decide which of its rates to publish. Pure: text and tables in, rates out.

Owns: the file's form, what is wrong with one, and the rule that a rate never changes what was charged.
Called by: `cli/catalog.py`, the demo. Next: `kafka/catalog.py` publishes what `plan` returns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NoReturn

import yaml

from pipeline import ist
from pipeline.catalog.rates import (
    RATE_MAX_NANO,
    REQUEST_MAX_NANO,
    Prices,
    Rate,
    RateTable,
    Route,
    Tier,
    price_fields,
    prices_by_class,
)
from pipeline.events import AHEAD_MS, STAMP_AHEAD_MS, Timestamps
from pipeline.money import AmountError, format_inr, format_rate, parse_inr, rate_nano_per_token
from pipeline.usage import CLASSES, MAX_TOKENS

CATALOG_AGE_MAX_MS = 45_000
"""No worker charges by a catalog that it has not confirmed to be whole for longer than this."""
PUBLISHING_MAX_MS = 60_000
"""How long publishing takes at most, from asking the broker for the time to the rates being there to read."""
CLOCKS_APART_MAX_MS = 195_000
"""How far a worker's clock may be ahead of that of the broker which is asked for the time, with what a broker that hangs
may hold publishing up."""
ANNOUNCED_MS = AHEAD_MS + STAMP_AHEAD_MS + CATALOG_AGE_MAX_MS + PUBLISHING_MAX_MS + CLOCKS_APART_MAX_MS
"""How far ahead of the broker's clock a rate must start that is added to a route, replaced or withdrawn: 25 minutes.

An event may be AHEAD_MS ahead of its record's time stamp, and a worker takes a stamp that is STAMP_AHEAD_MS ahead of its
clock. Then no event that reached a worker before it knew of the change can be of a time at or after that start.
"""
NAME_MAX = 256
_START_MAX_MS = 32_503_680_000_000

_PER_MTOK = "_inr_per_mtok"
_PRICES = tuple(name + _PER_MTOK for name in CLASSES)
_REQUEST = "request_inr"
_TIERS, _ABOVE = "tiers", "above_prompt_tokens"
_REQUIRED = ("model", "provider", "effective_from", "input_inr_per_mtok", "output_inr_per_mtok")
_FIELDS = ("model", "provider", "effective_from", *_PRICES, _REQUEST, _TIERS)
_TIER_FIELDS = (_ABOVE, *_PRICES)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,12}")

_timestamps = Timestamps()


class CatalogError(ValueError):
    """A catalog file that cannot be read or applied; the message names the entry and the field."""


def parse_file(text: str, name: str) -> list[Rate]:
    """Return the rates of a catalog file, JSON where its name ends in `.json`, else YAML.

    Numbers are read from their text, so 12.5 is exact whether it is quoted or not. Raises CatalogError.
    """
    document = _load_json(text) if name.lower().endswith(".json") else _load_yaml(text)
    if not isinstance(document, Mapping) or set(document) != {"rates"}:
        raise CatalogError("the file must hold one mapping with the key `rates` and nothing beside it")
    entries = document["rates"]
    if not isinstance(entries, list):
        raise CatalogError("`rates` must be a list")
    rates: list[Rate] = []
    first_seen: dict[tuple[Route, int], int] = {}
    for number, entry in enumerate(entries, 1):
        rate = _rate(entry, number)
        earlier = first_seen.setdefault((rate.route, rate.from_ms), number)
        if earlier != number:
            raise CatalogError(
                f"{_label(number, rate.model, rate.provider)}: effective_from: entry {earlier} gives the same "
                f"route the same start"
            )
        rates.append(rate)
    return rates


def plan(existing: RateTable, wanted: Sequence[Rate], now_ms: int) -> list[Rate]:
    """Return the rates to publish so that the catalog holds those wanted, none where it does already.

    A route that has no rate yet may be given its history; a route that has one gets new rates and
    changes of announced ones only where they start ANNOUNCED_MS after `now_ms`, the broker's time, or later: two
    equal requests never cost different sums. Newest first,
    so that a reader in the midst of a route's history finds no rate rather than a wrong one. Raises
    CatalogError, naming the first entry that would change what was or is about to be charged.
    """
    earliest_ms = now_ms + ANNOUNCED_MS
    published = []
    for number, rate in enumerate(wanted, 1):
        known = existing.of_route(rate.route)
        same_start = existing.starting(rate.route, rate.from_ms)
        if same_start == rate:
            continue
        if known and rate.from_ms < earliest_ms:
            label = _label(number, rate.model, rate.provider)
            if same_start is not None:
                raise CatalogError(
                    f"{label}: the rate from {ist.isoformat(rate.from_ms)} is in force or about to be, so it can "
                    f"never change (it is {_shown(same_start)}); add one that starts later"
                )
            raise CatalogError(
                f"{label}: effective_from: the route has rates already, so a new one must start at "
                f"{ist.isoformat(earliest_ms)} or later by the broker's clock, not at {ist.isoformat(rate.from_ms)}"
            )
        published.append(rate)
    return sorted(published, key=lambda rate: (rate.route, -rate.from_ms))


def withdraw(existing: RateTable, route: Route, from_ms: int, now_ms: int) -> Rate:
    """Return the announced rate of a route to take out of the catalog; `now_ms` is the broker's time.

    Raises CatalogError where there is no such rate, or it is in force or so near that requests may have been
    charged by it.
    """
    name = f"{route[0]} at {route[1]}"
    rates = existing.of_route(route)
    found = next((rate for rate in rates if rate.from_ms == from_ms), None)
    if found is None:
        starts = ", ".join(ist.isoformat(rate.from_ms) for rate in reversed(rates)) or "none"
        raise CatalogError(f"{name} has no rate from {ist.isoformat(from_ms)}; its rates start at: {starts}")
    if from_ms < now_ms + ANNOUNCED_MS:
        raise CatalogError(
            f"{name}: the rate from {ist.isoformat(from_ms)} is in force or about to be, so it cannot be withdrawn; "
            f"only one that starts at {ist.isoformat(now_ms + ANNOUNCED_MS)} or later can"
        )
    return found


def parse_start(text: str) -> int:
    """Return the instant of an `effective_from` in milliseconds. Raises CatalogError."""
    from_ms = _timestamps.ms(text)
    if from_ms is None or not 0 <= from_ms < _START_MAX_MS:
        raise CatalogError("effective_from: must be a time such as 2026-04-01T00:00:00+05:30, with an offset")
    return from_ms


def _rate(entry: object, number: int) -> Rate:
    if not isinstance(entry, Mapping):
        raise CatalogError(f"entry {number}: must be a mapping with the keys {', '.join(_FIELDS)}")
    label = _label(number, entry.get("model"), entry.get("provider"))
    for field in _REQUIRED:
        if entry.get(field) is None:
            raise CatalogError(f"{label}: {field}: is missing")
    tiers = entry.get(_TIERS)
    texts = _texts({k: v for k, v in entry.items() if k != _TIERS}, label, _FIELDS)
    try:
        from_ms = parse_start(texts["effective_from"])
    except CatalogError as error:
        raise CatalogError(f"{label}: {error}") from None
    prices = _prices(texts, label)
    fields = {
        "model": _name(texts["model"], label, "model"),
        "provider": _name(texts["provider"], label, "provider"),
        "from_ms": from_ms,
        **price_fields(prices),
        "request_nano": _fee(texts, label),
        "tiers": _tiers(tiers, prices, label) if tiers is not None else (),
    }
    return Rate(**fields)


def _tiers(entries: object, base: Mapping[str, int], label: str) -> tuple[Tier, ...]:
    """Return the tiers of a rate, the largest first; what one leaves out is as the rate has it, or has not."""
    if not isinstance(entries, list):
        raise CatalogError(f"{label}: {_TIERS}: must be a list")
    tiers: dict[int, Tier] = {}
    for number, entry in enumerate(entries, 1):
        place = f"{label}: tier {number}"
        if not isinstance(entry, Mapping):
            raise CatalogError(f"{place}: must be a mapping with the keys {', '.join(_TIER_FIELDS)}")
        texts = _texts(entry, place, _TIER_FIELDS)
        above = _whole_number(texts.pop(_ABOVE, None), place)
        if above in tiers:
            raise CatalogError(f"{place}: {_ABOVE}: another tier has {above} too")
        prices = _prices(texts, place)
        if not prices:
            raise CatalogError(f"{place}: gives no price")
        tiers[above] = Tier(above, **price_fields({**base, **prices}))
    return tuple(tiers[above] for above in sorted(tiers, reverse=True))


def _whole_number(text: str | None, label: str) -> int:
    if text is None:
        raise CatalogError(f"{label}: {_ABOVE}: is missing")
    if not _WHOLE_NUMBER.fullmatch(text) or not 1 <= int(text) <= MAX_TOKENS:
        raise CatalogError(f"{label}: {_ABOVE}: must be a whole number of tokens from 1 to {MAX_TOKENS}")
    return int(text)


def _texts(entry: Mapping[str, object], label: str, known: Sequence[str]) -> dict[str, str]:
    """Return the fields of an entry that are given. Raises CatalogError for one that is not known, or no text."""
    for field in entry:
        if field not in known:
            raise CatalogError(f"{label}: {str(field)[:60]}: is not known; the keys are {', '.join(known)}")
    return {field: _text(value, label, field) for field, value in entry.items() if value is not None}


def _prices(texts: Mapping[str, str], label: str) -> dict[str, int]:
    """Return the prices that are given, in nano-rupees a token by class."""
    given = {name: name + _PER_MTOK for name in CLASSES if name + _PER_MTOK in texts}
    return {name: _price(texts[field], label, field) for name, field in given.items()}


def _fee(texts: Mapping[str, str], label: str) -> int:
    """Return the fee a request, in nano-rupees; 0 where none is given."""
    try:
        fee_nano = parse_inr(texts.get(_REQUEST, "0"))
    except AmountError as error:
        raise CatalogError(f"{label}: {_REQUEST}: {error}") from None
    if not 0 <= fee_nano <= REQUEST_MAX_NANO:
        raise CatalogError(f"{label}: {_REQUEST}: must be from 0 to {format_inr(REQUEST_MAX_NANO)} rupees")
    return fee_nano


def _text(value: object, label: str, field: str) -> str:
    if not isinstance(value, str):
        raise CatalogError(f"{label}: {field}: must be a text or a number, not a {type(value).__name__}")
    return value


def _name(text: str, label: str, field: str) -> str:
    if not text or len(text) > NAME_MAX or text != text.strip() or min(text) < " ":
        raise CatalogError(
            f"{label}: {field}: must be a name of 1 to {NAME_MAX} characters, without outer spaces"
        )
    return text


def _price(text: str, label: str, field: str) -> int:
    try:
        rate_nano = rate_nano_per_token(text)
    except AmountError as error:
        raise CatalogError(f"{label}: {field}: {error}") from None
    if rate_nano > RATE_MAX_NANO:
        raise CatalogError(f"{label}: {field}: {text} is above {format_rate(RATE_MAX_NANO)} rupees per Mtok")
    return rate_nano


def _label(number: int, model: object, provider: object) -> str:
    names = [name[:80] for name in (model, provider) if isinstance(name, str)]
    return f"entry {number} ({', '.join(names)})" if names else f"entry {number}"


def _shown(rate: Rate) -> str:
    parts = [_shown_prices(rate)]
    if rate.request_nano:
        parts.append(f"request {format_inr(rate.request_nano)}")
    parts += [
        f"above {tier.above_prompt_tokens} tokens: {_shown_prices(tier)}" for tier in reversed(rate.tiers)
    ]
    return "; ".join(parts)


def _shown_prices(prices: Prices) -> str:
    return ", ".join(f"{name} {format_rate(nano)}" for name, nano in prices_by_class(prices).items())


class _Loader(yaml.SafeLoader):
    """YAML in which every scalar but null is text, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping. Raises a YAMLError where it gives a key twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value != "<<" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:60]!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_KEPT_TAGS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _load_yaml(text: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that knows fewer types
    except yaml.YAMLError as error:
        raise CatalogError(f"not YAML: {error}") from None
    except RecursionError:
        raise CatalogError("not a catalog: nested too deeply") from None


def _load_json(text: str) -> object:
    try:
        return json.loads(
            text, parse_float=str, parse_int=str, parse_constant=_no_constant, object_pairs_hook=_unique
        )
    except RecursionError:
        raise CatalogError("not a catalog: nested too deeply") from None
    except CatalogError:
        raise
    except ValueError as error:
        raise CatalogError(f"not JSON: {error}") from None


def _no_constant(text: str) -> NoReturn:
    raise CatalogError(f"not JSON: {text} is no number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CatalogError("not a catalog: a key is given twice in one object")
    return found

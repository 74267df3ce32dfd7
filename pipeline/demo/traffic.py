"""The demo's traffic: 30 IST days of history as events, and requests to be made live. Pure.

Owns: the shape of the days, what a request looks like, how it fails, and the numbers of the events.
Called by: `demo/seeding.py` (history), `demo/live.py` (requests), `demo/figures.py` (what they cost).

The same seed, instant and catalog always give the same traffic: a day's draws depend on nothing but the
seed, the org and the day, and `now_ms` only cuts the last day off. So a seeding that broke off can be done
again under the same numbers, and what was charged is not charged again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from msgspec import Struct

from pipeline import ist
from pipeline.catalog.rates import Rate, RateTable
from pipeline.demo.platform import ORGS, OUTAGE, DemoKey, DemoOrg, models
from pipeline.events import EVENT_TYPE
from pipeline.standin.completion import providers_of

DAYS = 30
SOURCE = "demo/history"
BATCH_EVENTS = 400
LIVE_PROMPT_MAX = 1500
LIVE_COMPLETION_MAX = 600

HOUR_MS = 3_600_000
_HOURS_BUSY = 8.7
"""How many of its busiest hours a day of `_OFFICE` is worth: it turns requests a day into an hour's."""
_FALLBACK = 0.035
_FAILURES = (("429", 0.008), ("500", 0.005), ("timeout", 0.004))
_OUTAGE_NOTICED = 0.25
"""How much of the outage passes before most requests go straight to the next provider."""
_STATUS = {
    "429": (429, "rate_limit_exceeded", 180),
    "500": (500, "provider_error", 900),
    "timeout": (504, "provider_timeout", 30_000),
}
_SHAPES: dict[str, tuple[float, float, int]] = {
    "airavata-7b": (5.3, 4.3, 6),
    "claude-sonnet-4.5": (6.9, 5.7, 16),
    "deepseek-v3.2": (6.6, 6.0, 14),
    "gpt-5-mini": (6.4, 5.6, 10),
    "qwen3-235b-a22b": (6.9, 5.6, 11),
    "sarvam-105b": (6.3, 5.6, 15),
}
"""Logarithms of the middle prompt and completion in tokens, and milliseconds a token, where they differ."""
_SHAPE = (6.2, 5.2, 9)
_REASONING = ("deepseek-v3.2", "gpt-5-mini", "qwen3-235b-a22b")


class TrafficBatch(Struct, frozen=True):
    """Events of one org, numbered on: one record."""

    org: str
    events: list[dict[str, Any]]


class Call(Struct, frozen=True):
    """A request as it is drawn: who asks what, how long it is, and how it ends.

    `simulate` is None, `fallback`, or how it fails: `429`, `500`, `timeout`.
    """

    org: str
    key: DemoKey
    model: str
    prompt_tokens: int
    completion_tokens: int
    is_cached: bool
    is_stream: bool
    simulate: str | None


class LiveCall(Struct, frozen=True):
    """A request to be made. `gap` is how long after the one before, in mean gaps: 1 on average."""

    gap: float
    call: Call


def history(seed: int, now_ms: int, rates: RateTable) -> Iterator[TrafficBatch]:
    """Yield the last 30 IST days up to `now_ms`, oldest day first, ready to be published in this order.

    Events are numbered in that order, so that within a partition the numbers rise.
    """
    number = 0
    today = ist.day_of(now_ms)
    for day in range(today - DAYS + 1, today + 1):
        for org in ORGS:
            events = list(_day_of(org, seed, day, now_ms, rates))
            for at in range(0, len(events), BATCH_EVENTS):
                batch = events[at : at + BATCH_EVENTS]
                for event in batch:
                    number += 1
                    event["id"] = f"history-{number:08d}"
                    event["sequence"] = f"{number:020d}"
                yield TrafficBatch(org.org, batch)


def live(seed: int) -> Iterator[LiveCall]:
    """Yield requests to be made one after the other, without end."""
    random = Random(f"{seed}/live")  # noqa: S311 - nothing secret is drawn
    while True:
        org = random.choices(ORGS, [org.live_share for org in ORGS])[0]
        drawn = _draw(random, org)
        yield LiveCall(
            random.expovariate(1.0),
            Call(
                drawn.org,
                drawn.key,
                drawn.model,
                min(drawn.prompt_tokens, LIVE_PROMPT_MAX),
                min(drawn.completion_tokens, LIVE_COMPLETION_MAX),
                drawn.is_cached,
                drawn.is_stream,
                drawn.simulate,
            ),
        )


def served_by(call: Call, rates: RateTable, at_ms: int) -> str:
    """Return the provider that a request goes to at an instant: the second one on a fallback."""
    return _served_by(call, providers_of(rates, call.model, at_ms))


def _served_by(call: Call, providers: list[str]) -> str:
    return providers[min(1, len(providers) - 1) if call.simulate == "fallback" else 0]


def _day_of(org: DemoOrg, seed: int, day: int, now_ms: int, rates: RateTable) -> Iterator[dict[str, Any]]:
    random = Random(f"{seed}/{org.org}/{day}")  # noqa: S311 - nothing secret is drawn
    start_ms = ist.day_start_ms(day)
    busy = org.requests_a_day * org.weekdays[ist.date_of(day).weekday()] / (_HOURS_BUSY * max(org.hours))
    times: list[int] = []
    for hour, weight in enumerate(org.hours):
        expected = busy * weight * random.uniform(0.85, 1.15)
        count = int(expected + random.random())
        times += [start_ms + hour * HOUR_MS + random.randrange(HOUR_MS) for _ in range(count)]
    providers = {model: providers_of(rates, model, start_ms) for model in models()}
    for at_ms in sorted(times):
        event = _event(random, _draw(random, org), at_ms, day - ist.day_of(now_ms), rates, providers)
        if at_ms + int(event["data"]["latency_ms"]) < now_ms:
            yield event


def _draw(random: Random, org: DemoOrg) -> Call:
    key = random.choices(org.keys, [key.share for key in org.keys])[0]
    models: Mapping[str, int] = key.models or org.models
    model = random.choices(list(models), list(models.values()))[0]
    prompt, completion, _ = _SHAPES.get(model, _SHAPE)
    return Call(
        org=org.org,
        key=key,
        model=model,
        prompt_tokens=min(max(int(random.lognormvariate(prompt, 0.8)), 12), 60_000),
        completion_tokens=min(max(int(random.lognormvariate(completion, 0.7)), 4), 8_000),
        is_cached=random.random() < 0.3,  # noqa: PLR2004 - a share
        is_stream=random.random() < 0.6,  # noqa: PLR2004 - a share
        simulate=_ending(random),
    )


def _ending(random: Random) -> str | None:
    drawn = random.random()
    for name, share in (*_FAILURES, ("fallback", _FALLBACK)):
        if drawn < share:
            return name
        drawn -= share
    return None


def _event(
    random: Random,
    call: Call,
    at_ms: int,
    days_from_now: int,
    rates: RateTable,
    providers: Mapping[str, list[str]],
) -> dict[str, Any]:
    """Return a request of the past as an event, without its number. `providers` are the day's, by model."""
    provider, ending = _served_by(call, providers[call.model]), call.simulate
    hours = (at_ms + ist.OFFSET_MS) % ist.DAY_MS / HOUR_MS - OUTAGE.from_hour
    length = OUTAGE.until_hour - OUTAGE.from_hour
    draw = random.random()
    if days_from_now == -OUTAGE.days_ago and 0 <= hours < length and provider == OUTAGE.provider:
        others = [p for p in providers[call.model] if p != provider]
        fails = draw < (0.4 if hours < length * _OUTAGE_NOTICED else 0.03)
        if fails or not others:
            ending = "timeout" if draw < 0.2 else "500"  # noqa: PLR2004 - a share
        else:
            provider = others[0]
    token_ms = _SHAPES.get(call.model, _SHAPE)[2]
    ttft_ms = 90 + int(random.expovariate(1 / 160))
    status, error_code, latency_ms = 200, None, ttft_ms + call.completion_tokens * token_ms
    failure = _STATUS.get(ending or "")
    if failure is not None:
        status, error_code, latency_ms = failure[0], failure[1], failure[2] + int(random.expovariate(1 / 60))
    data: dict[str, Any] = {
        "key_id": call.key.key_id,
        "tier": call.key.tier,
        "byok": call.key.byok,
        "model": call.model,
        "provider": provider,
        "status": status,
        "error_code": error_code,
        "latency_ms": latency_ms,
        "ttft_ms": ttft_ms if failure is None else None,
        "stream": call.is_stream,
        "usage": None
        if failure is not None
        else _usage(random, call, rates.in_force(call.model, provider, at_ms)),
    }
    return {
        "specversion": "1.0",
        "type": EVENT_TYPE,
        "source": SOURCE,
        "subject": call.org,
        "time": ist.isoformat(at_ms),
        "data": data,
    }


def _usage(random: Random, call: Call, rate: Rate | None) -> dict[str, Any]:
    has_cache = rate is not None and rate.cached_nano < rate.input_nano
    cached = int(call.prompt_tokens * random.uniform(0.3, 0.8)) if call.is_cached and has_cache else 0
    reasoning = call.completion_tokens // 3 if call.model in _REASONING else 0
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "total_tokens": call.prompt_tokens + call.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }

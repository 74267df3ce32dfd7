"""The demo's traffic: the same for the same arguments, numbered, charged, and of the shape it promises."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import cache
from itertools import islice
from typing import Any

import pytest

from pipeline import ist
from pipeline.accounts.model import TRIAL_REQUESTS_PER_DAY
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import cost_nano
from pipeline.demo.platform import AGENCY, ORGS, OUTAGE, STARTUP, TRIAL, models
from pipeline.demo.seeding import catalog, table_of
from pipeline.demo.traffic import BATCH_EVENTS, DAYS, SOURCE, TrafficBatch, history, live, served_by
from pipeline.events import Timestamps, decode_record
from tests.support.builders import NOW_MS

NOON_MS = NOW_MS + 12 * 3_600_000
"""Noon of Saturday, 13 June 2026, in IST."""
Event = dict[str, Any]


@cache
def rates() -> RateTable:
    """The demo's catalog."""
    return table_of(catalog(NOON_MS))


@cache
def batches() -> tuple[TrafficBatch, ...]:
    """A history as it is published."""
    return tuple(history(1, NOON_MS, rates()))


@cache
def events(now_ms: int = NOON_MS) -> tuple[Event, ...]:
    """All events of a history in the order they are published."""
    history_of = batches() if now_ms == NOON_MS else history(1, now_ms, rates())
    return tuple(event for batch in history_of for event in batch.events)


def at_ms(event: Event) -> int:
    """When an event was."""
    found = Timestamps().ms(event["time"])
    assert found is not None
    return found


def test_the_same_arguments_give_the_same_bytes() -> None:
    again = [batch.events for batch in history(1, NOON_MS, rates())]
    assert json.dumps([e for batch in again for e in batch]) == json.dumps(events())
    assert next(history(2, NOON_MS, rates())) != batches()[0]


def test_a_later_start_only_adds_to_the_last_day() -> None:
    later, earlier = events(NOON_MS + 3_600_000), events()
    start_ms = ist.day_start_ms(ist.day_of(NOON_MS))
    before_today = [e for e in earlier if at_ms(e) < start_ms]
    assert list(later[: len(before_today)]) == before_today
    assert len(later) > len(earlier)


def test_every_event_is_one_and_numbers_rise() -> None:
    numbers = []
    for batch in batches():
        assert 0 < len(batch.events) <= BATCH_EVENTS
        decoded = decode_record(json.dumps(batch.events).encode())
        assert decoded is not None
        assert {(e.source, e.subject) for e in decoded} == {(SOURCE, batch.org)}
        numbers += [int(e.sequence or "") for e in decoded]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({e["id"] for e in events()}) == len(numbers)
    assert 20_000 <= len(numbers) <= 40_000


@pytest.mark.parametrize("now_ms", [NOW_MS, NOW_MS + 1, NOON_MS, NOW_MS - 1])
def test_history_is_the_last_thirty_days_and_no_more(now_ms: int) -> None:
    days = {ist.day_of(at_ms(e)) for e in events(now_ms)}
    today = ist.day_of(now_ms)
    assert today - DAYS < min(days)
    assert set(range(today - DAYS + 1, today)) <= days
    assert max(at_ms(e) for e in events(now_ms)) < now_ms


def test_days_have_office_hours_and_weekends_are_quiet() -> None:
    today = ist.day_of(NOON_MS)
    by_weekday, by_hour = defaultdict(list), Counter[int]()
    by_day = Counter(ist.day_of(at_ms(e)) for e in events() if e["subject"] == STARTUP.org)
    for day, count in by_day.items():
        if day != today:
            by_weekday[ist.date_of(day).weekday() >= 5].append(count)
    assert max(by_weekday[True]) < min(by_weekday[False]) * 0.7
    for event in events():
        by_hour[ist.datetime_of(at_ms(event)).hour] += 1
    assert sum(by_hour[hour] for hour in range(9, 19)) > 0.75 * by_hour.total()


def test_every_request_that_costs_has_a_rate_and_trial_keys_stay_below_their_limit() -> None:
    trials = Counter[int]()
    for event in events():
        data = event["data"]
        if data["tier"] == "trial":
            trials[ist.day_of(at_ms(event))] += 1
        if data["status"] < 400:
            rate = rates().in_force(data["model"], data["provider"], at_ms(event))
            assert rate is not None
            usage = data["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            assert 0 <= cached <= usage["prompt_tokens"]
            assert cost_nano(rate, usage["prompt_tokens"], cached, usage["completion_tokens"]) > 0
    assert trials
    assert max(trials.values()) <= TRIAL_REQUESTS_PER_DAY // 2


def test_there_is_everything_one_wants_to_see() -> None:
    seen = Counter[Any]()
    for event in events():
        data = event["data"]
        seen[data["status"]] += 1
        seen[data["byok"], data["tier"]] += 1
        if data["model"] == "krutrim-2":
            seen[data["provider"]] += 1
    assert {200, 429, 500, 504, (True, "standard"), (False, "trial"), "krutrim", "e2e"} <= seen.keys()
    assert 0.005 < (seen[429] + seen[500] + seen[504]) / len(events()) < 0.05
    assert len(models()) == 12
    assert {e["data"]["model"] for e in events()} == models()


def test_an_outage_sends_requests_to_the_second_provider() -> None:
    day = ist.day_of(NOON_MS) - OUTAGE.days_ago
    hours = range(OUTAGE.from_hour, OUTAGE.until_hour)
    during = [
        e["data"] for e in events() if ist.day_of(at_ms(e)) == day and ist.datetime_of(at_ms(e)).hour in hours
    ]
    served = [d for d in during if d["status"] == 200 and d["model"] == "krutrim-2" and not d["byok"]]
    assert served
    assert {d["provider"] for d in served} == {"e2e"}
    alone = [d for d in during if d["model"] == "krutrim-spectre-v2"]
    assert alone
    assert all(d["status"] >= 400 for d in alone)


def test_live_traffic_repeats_itself_by_seed_and_comes_from_everybody() -> None:
    first = list(islice(live(1), 2000))
    assert first == list(islice(live(1), 2000))
    assert first != list(islice(live(2), 2000))
    assert 0.9 < sum(call.gap for call in first) / len(first) < 1.1
    shares = Counter(call.call.org for call in first)
    assert set(shares) == {org.org for org in ORGS}
    assert shares[STARTUP.org] > shares[AGENCY.org] > shares[TRIAL.org]
    assert all(served_by(call.call, rates(), NOON_MS) for call in first)

"""`/me/activity` against sums done row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import MODELS, Request, inr, insert, random_requests, request

TODAY = ist.date_of(ist.day_of(NOW_MS)).isoformat()
NAMES = {f"org_a_key_{n}": ("org_a", f"key number {n}") for n in range(10)} | {
    "org_b_key_1": ("org_b", "b's")
}
PATH = "/me/activity"


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    with api(engine, key_names=NAMES) as running:
        yield running


def expected(rows: Iterable[Request], **filters: str) -> dict[str, Any]:
    """Return the answer for rows of one org and range, but for its dates."""
    of_range = list(rows)
    kept = [r for r in of_range if all(getattr(r, name) == value for name, value in filters.items())]
    return {
        "days": [
            {"day": day, "model": model, **sums, "errors": errors}
            for (day, model), sums, errors in grouped(kept, lambda r: (r.day, r.model))
        ],
        "top_models": top({"model": m, **sums} for (m,), sums, _ in grouped(kept, lambda r: (r.model,))),
        "top_keys": top(
            {"key_id": k, "key_name": NAMES.get(k, (None, None))[1], **sums}
            for (k,), sums, _ in grouped(kept, lambda r: (r.key_id,))
        ),
        "model_providers": [
            {"model": model, "provider": provider or None, **sums, "errors": errors}
            for (model, provider), sums, errors in grouped(kept, lambda r: (r.model, r.provider))
        ],
        "totals": {
            **volume(kept),
            "errors": sum(r.failed for r in kept),
            "byok_requests": sum(r.byok for r in kept),
        },
        "models": sorted({r.model for r in of_range}),
        "keys": [
            {"key_id": k, "key_name": NAMES.get(k, (None, None))[1]}
            for k in sorted({r.key_id for r in of_range})
        ],
        "providers": sorted({r.provider for r in of_range if r.provider}),
    }


def grouped(
    rows: Iterable[Request], by: Callable[[Request], tuple[str, ...]]
) -> list[tuple[tuple[str, ...], dict[str, Any], int]]:
    groups: dict[tuple[str, ...], list[Request]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    return [(g, volume(groups[g]), sum(r.failed for r in groups[g])) for g in sorted(groups)]


def volume(rows: list[Request]) -> dict[str, Any]:
    return {
        "requests": len(rows),
        "tokens": sum(r.tokens for r in rows),
        "cost_inr": inr(sum(r.cost_nano for r in rows)),
    }


def top(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(lines, key=lambda line: (-line["cost_inr"], -line["tokens"], next(iter(line.values()))))[
        :10
    ]


def between(rows: Iterable[Request], org: str, first: str, last: str) -> list[Request]:
    return [r for r in rows if r.org == org and first <= r.day <= last]


def body(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("from", "to", "as_of")}


def test_without_anything_it_is_the_last_30_ist_days(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=10, count=4_000, days=45)
    insert(engine, rows)
    first = ist.date_of(ist.day_of(NOW_MS) - 29).isoformat()
    for org in ("org_a", "org_b"):
        answer = served.get(PATH, org)
        assert (answer["from"], answer["to"]) == (first, TODAY)
        assert answer["as_of"] == ist.isoformat(NOW_MS)
        own = {k: v for k, v in NAMES.items() if v[0] == org}
        wanted = expected(between(rows, org, first, TODAY))
        for key in (*wanted["top_keys"], *wanted["keys"]):
            key["key_name"] = own.get(key["key_id"], (None, None))[1]
        assert body(answer) == wanted


@pytest.mark.parametrize(
    "filters",
    [
        {"model": MODELS[0]},
        {"model": MODELS[2]},
        {"key_id": "org_a_key_3"},
        {"model": MODELS[1], "key_id": "org_a_key_12"},
        {"model": "no such model"},
        {"key_id": "no such key"},
        {"key_id": "org_b_key_1"},
        {"provider": "sarvam"},
        {"model": MODELS[0], "provider": "e2e"},
        {"model": MODELS[1], "key_id": "org_a_key_3", "provider": "krutrim"},
        {"provider": "no such provider"},
    ],
)
def test_filters_narrow_all_but_the_menus(engine: Engine, served: Api, filters: dict[str, str]) -> None:
    rows = random_requests(seed=11, count=3_000, days=40)
    insert(engine, rows)
    answer = served.get(PATH, "org_a", from_="2026-05-10", to="2026-06-10", **filters)
    assert body(answer) == expected(between(rows, "org_a", "2026-05-10", "2026-06-10"), **filters)


def test_every_part_of_an_answer_agrees(engine: Engine, served: Api) -> None:
    insert(engine, random_requests(seed=12, count=3_000, days=20))
    answer = served.get(PATH, "org_a")
    for figure in ("requests", "tokens", "cost_inr"):
        total = answer["totals"][figure]
        for part in ("days", "top_models", "model_providers"):
            assert sum(line[figure] for line in answer[part]) == total, (figure, part)


def test_a_request_counts_on_its_own_ist_day(engine: Engine, served: Api) -> None:
    start = ist.day_start_ms(ist.day_of(NOW_MS) - 3)
    shifts = {0: -1, 1: 0, 2: ist.DAY_MS - 1, 3: ist.DAY_MS}
    insert(engine, [request(public_id(0, n), "org_a", start + shift) for n, shift in shifts.items()])
    day = ist.date_of(ist.day_of(start)).isoformat()
    answer = served.get(PATH, "org_a", from_=day, to=day)
    assert [(line["day"], line["requests"]) for line in answer["days"]] == [(day, 2)]
    wide = served.get(PATH, "org_a")
    assert [line["requests"] for line in wide["days"]] == [1, 2, 1]


def test_ten_at_the_top_in_a_stable_order(engine: Engine, served: Api) -> None:
    base = request(public_id(0, 0), "org_a", NOW_MS - 1)
    rows = [
        replace(
            base,
            id=public_id(0, n),
            model=f"model-{n:02}",
            key_id=f"key-{n:02}",
            cost_nano=5 if n == 11 else 3,
            prompt_tokens=900 if n == 10 else 100,
        )
        for n in range(12)
    ]
    insert(engine, rows)
    answer = served.get(PATH, "org_a")
    order = [11, 10, 0, 1, 2, 3, 4, 5, 6, 7]
    assert [line["model"] for line in answer["top_models"]] == [f"model-{n:02}" for n in order]
    assert [line["key_id"] for line in answer["top_keys"]] == [f"key-{n:02}" for n in order]
    assert len(answer["models"]) == len(answer["keys"]) == 12


def test_money_is_exact_at_both_ends_of_its_range(engine: Engine, served: Api) -> None:
    costs = [1, 6_100_000, 2**62, 2**62, 2**62]
    rows = [
        request(public_id(0, n), "org_a", NOW_MS - 1, cost_nano=cost, key_id=f"key_{n}")
        for n, cost in enumerate(costs)
    ]
    insert(engine, rows)
    answer = served.get(PATH, "org_a")
    assert answer["totals"]["cost_inr"] == inr(sum(costs)) == Decimal("13835058055.288263713")
    assert answer["days"][0]["cost_inr"] == inr(sum(costs))
    assert answer["top_keys"][-1]["cost_inr"] == Decimal("0.000000001")
    assert answer["top_keys"][-2]["cost_inr"] == Decimal("0.0061")
    raw = served.client.get(PATH, headers={"Authorization": f"Bearer {served.token('org_a')}"}).text
    assert '"cost_inr":0.000000001}' in raw
    assert "e-" not in raw


def test_nothing_is_zeros_and_empty_lists(served: Api) -> None:
    assert body(served.get(PATH, "org_nobody")) == expected([])


@pytest.mark.parametrize(
    ("given", "first", "last"),
    [
        ({}, "2026-05-15", "2026-06-13"),
        ({"to": "2026-03-01"}, "2026-01-31", "2026-03-01"),
        ({"from_": "2026-06-01"}, "2026-06-01", "2026-06-13"),
        ({"from_": "2026-06-13"}, "2026-06-13", "2026-06-13"),
        ({"from_": "2025-06-13"}, "2025-06-13", "2026-06-13"),
        ({"from_": "2024-02-29", "to": "2025-02-28"}, "2024-02-29", "2025-02-28"),
        ({"from_": "2027-01-01", "to": "2027-01-01"}, "2027-01-01", "2027-01-01"),
        ({"to": "1970-01-02"}, "1970-01-01", "1970-01-02"),
        ({"from_": "2149-06-06", "to": "2149-06-06"}, "2149-06-06", "2149-06-06"),
    ],
)
def test_ranges(served: Api, given: dict[str, str], first: str, last: str) -> None:
    answer = served.get(PATH, "org_a", **given)
    assert (answer["from"], answer["to"]) == (first, last)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"from_": "2026-06-02", "to": "2026-06-01"}, "from"),
        ({"from_": "2026-06-14"}, "from"),
        ({"from_": "2025-06-12"}, "from"),
        ({"from_": "2024-01-01", "to": "2025-01-01"}, "from"),
        ({"from_": "2026-6-1"}, "from"),
        ({"from_": "20260601"}, "from"),
        ({"from_": "2026-06-01T00:00:00Z"}, "from"),
        ({"from_": "1780000000"}, "from"),
        ({"from_": "today"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"to": "२०२६-०६-०१"}, "to"),
        ({"to": "1969-12-31"}, "to"),
        ({"to": "9999-12-31"}, "to"),
        ({"to": ""}, "to"),
        ({"model": ""}, "model"),
        ({"key_id": ""}, "key_id"),
        ({"key": "x"}, "key"),
        ({"From": "2026-06-01"}, "From"),
        ({"limit": "5"}, "limit"),
        ({"model": ["a", "b"]}, "model"),
    ],
)
def test_what_is_refused(served: Api, given: dict[str, Any], param: str) -> None:
    assert served.refused(PATH, "org_a", **given) == (400, "invalid_request", param)


def test_odd_texts_are_just_filters_that_match_nothing(engine: Engine, served: Api) -> None:
    insert(engine, random_requests(seed=13, count=200, orgs=("org_a",), days=5))
    for text in ("' OR 1=1 --", "{org:String}", "\\", "\t", "\0", "%", "é" * 500):
        answer = served.get(PATH, "org_a", model=text)
        assert answer["days"] == [] and answer["models"] == sorted(MODELS)

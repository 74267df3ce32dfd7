"""`/me/activity/totals`: a range and the one before it, against sums done row by row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from pipeline import ist
from pipeline.api.http.parameters import Range
from pipeline.api.routes.totals import days_before
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import MODELS, Request, inr, insert, random_requests, request

PATH = "/me/activity/totals"


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    with api(engine) as running:
        yield running


def summed(rows: list[Request], first: str, last: str, **filters: str) -> dict[str, Any]:
    kept = [
        r
        for r in rows
        if r.org == "org_a"
        and first <= r.day <= last
        and all(getattr(r, name) == value for name, value in filters.items())
    ]
    return {
        "requests": len(kept),
        "tokens": sum(r.tokens for r in kept),
        "cost_inr": inr(sum(r.cost_nano for r in kept)),
        "errors": sum(r.failed for r in kept),
        "byok_requests": sum(r.byok for r in kept),
    }


@pytest.mark.parametrize(
    "filters",
    [{}, {"model": MODELS[2]}, {"key_id": "org_a_key_3", "provider": "e2e"}, {"provider": "no such"}],
)
def test_a_range_beside_the_days_before_it(engine: Engine, served: Api, filters: dict[str, str]) -> None:
    rows = random_requests(seed=51, count=3_000, days=44)
    insert(engine, rows)
    answer = served.get(PATH, "org_a", from_="2026-05-24", to="2026-06-10", **filters)
    assert answer == {
        "from": "2026-05-24",
        "to": "2026-06-10",
        "as_of": ist.isoformat(NOW_MS),
        "behind_ms": None,
        "totals": summed(rows, "2026-05-24", "2026-06-10", **filters),
        "previous": {
            "from": "2026-05-06",
            "to": "2026-05-23",
            "totals": summed(rows, "2026-05-06", "2026-05-23", **filters),
        },
    }


def test_the_totals_are_those_of_activity(engine: Engine, served: Api) -> None:
    insert(engine, random_requests(seed=52, count=2_000, days=44))
    answer = served.get(PATH, "org_b")
    activity = served.get("/me/activity", "org_b")
    assert {name: answer[name] for name in ("from", "to", "totals")} == {
        name: activity[name] for name in ("from", "to", "totals")
    }
    before = answer["previous"]
    assert before["totals"]["requests"] > 0
    assert (
        before["totals"]
        == served.get("/me/activity", "org_b", from_=before["from"], to=before["to"])["totals"]
    )


def test_money_is_exact_beyond_what_a_row_holds(engine: Engine, served: Api) -> None:
    for n in range(3):
        insert(engine, [request(public_id(0, n), "org_a", NOW_MS, cost_nano=2**62, key_id=f"key_{n}")])
    assert served.get(PATH, "org_a")["totals"]["cost_inr"] == inr(3 * 2**62)


@pytest.mark.parametrize(
    ("days", "before"),
    [
        (("2026-03-01", "2026-03-31"), ("2026-01-29", "2026-02-28")),
        (("2024-03-01", "2024-03-01"), ("2024-02-29", "2024-02-29")),
        (("1970-01-02", "1970-01-02"), ("1970-01-01", "1970-01-01")),
        (("1970-01-02", "1970-01-03"), None),
    ],
)
def test_the_days_before_a_range(days: tuple[str, str], before: tuple[str, str] | None) -> None:
    wanted = before and Range(*map(date.fromisoformat, before))
    assert days_before(Range(*map(date.fromisoformat, days))) == wanted


def test_there_is_no_range_before_the_first_day(served: Api) -> None:
    assert served.get(PATH, "org_a", from_="1970-01-01", to="1970-01-05")["previous"] is None


def test_how_far_behind_is_asked_for_the_sessions_org(engine: Engine) -> None:
    with api(engine, behind_ms={"org_a": 1_250, "org_b": 0}.get) as served:
        assert [served.get(PATH, org)["behind_ms"] for org in ("org_a", "org_b", "org_c")] == [1_250, 0, None]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"from_": "2026-02-30"}, "from"),
        ({"from_": "2025-01-01", "to": "2026-02-05"}, "from"),
        ({"from_": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"limit": "5"}, "limit"),
        ({"provider": ""}, "provider"),
    ],
)
def test_bad_ranges_and_filters(served: Api, given: dict[str, str], param: str) -> None:
    assert served.refused(PATH, "org_a", **given) == (400, "invalid_request", param)

"""`/me/usage` and `/me/usage/daily` against sums done row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import Request, insert, random_requests, request

TODAY = ist.day_of(NOW_MS)
FIRST, LAST = (ist.date_of(day).isoformat() for day in (TODAY - 29, TODAY))
NAMES = {f"org_a_key_{n}": ("org_a", f"key number {n}") for n in range(10)}


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    with api(engine, key_names=NAMES) as running:
        yield running


def volume(rows: list[Request]) -> dict[str, int]:
    return {"requests": len(rows), "tokens": sum(r.tokens for r in rows)}


def test_usage_of_each_key_today_and_over_30_days(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=20, count=3_000, days=34)
    rows.append(request(public_id(0, 3_000), "org_a", NOW_MS, key_id="org_a_key_1"))
    insert(engine, rows)
    month = [r for r in rows if r.org == "org_a" and FIRST <= r.day <= LAST]
    assert len(month) < len([r for r in rows if r.org == "org_a"])
    answer = served.get("/me/usage", "org_a")
    assert answer["as_of"] == ist.isoformat(NOW_MS)
    assert {key["key_id"]: key for key in answer["keys"]} == {
        key_id: {
            "key_id": key_id,
            "key_name": NAMES.get(key_id, (None, None))[1],
            "today": volume([r for r in month if r.key_id == key_id and r.day == LAST]),
            "last_30_days": volume([r for r in month if r.key_id == key_id]),
        }
        for key_id in {r.key_id for r in month}
    }
    tokens = [key["last_30_days"]["tokens"] for key in answer["keys"]]
    assert tokens == sorted(tokens, reverse=True)
    assert answer["totals"] == {
        "today": volume([r for r in month if r.day == LAST]),
        "last_30_days": volume(month),
    }
    assert answer["totals"]["today"]["requests"] > 0


def test_the_daily_series(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=21, count=3_000, days=34)
    insert(engine, rows)
    requests: Counter[tuple[str, str]] = Counter()
    tokens: Counter[tuple[str, str]] = Counter()
    for r in rows:
        if r.org == "org_b" and FIRST <= r.day <= LAST:
            requests[r.day, r.model] += 1
            tokens[r.day, r.model] += r.tokens
    answer = served.get("/me/usage/daily", "org_b")
    assert answer == {
        "as_of": ist.isoformat(NOW_MS),
        "days": [
            {"day": day, "model": model, "requests": requests[day, model], "tokens": tokens[day, model]}
            for day, model in sorted(requests)
        ],
    }


def test_a_day_begins_at_ist_midnight(engine: Engine, served: Api) -> None:
    midnight = ist.day_start_ms(TODAY)
    insert(engine, [request(public_id(0, n), "org_a", midnight + n - 1) for n in range(2)])
    assert served.get("/me/usage", "org_a")["totals"]["today"]["requests"] == 1
    served.clock[0] = midnight - 1
    assert served.get("/me/usage", "org_a")["totals"] == {
        "today": {"requests": 1, "tokens": 312},
        "last_30_days": {"requests": 1, "tokens": 312},
    }
    served.clock[0] = ist.day_start_ms(TODAY + 1)
    assert served.get("/me/usage", "org_a")["totals"]["today"]["requests"] == 0
    assert served.get("/me/usage", "org_a")["totals"]["last_30_days"]["requests"] == 2
    served.clock[0] = ist.day_start_ms(TODAY + 29)
    assert served.get("/me/usage", "org_a")["totals"]["last_30_days"]["requests"] == 1
    served.clock[0] = ist.day_start_ms(TODAY + 30)
    assert served.get("/me/usage", "org_a")["totals"]["last_30_days"]["requests"] == 0


def test_another_orgs_key_id_has_no_name_here(engine: Engine, served: Api) -> None:
    insert(engine, [request(public_id(1, 0), "org_b", NOW_MS, key_id="org_a_key_1")])
    [key] = served.get("/me/usage", "org_b")["keys"]
    assert (key["key_id"], key["key_name"]) == ("org_a_key_1", None)


def test_an_org_without_requests(served: Api) -> None:
    nothing = {"requests": 0, "tokens": 0}
    answer = served.get("/me/usage", "org_nobody")
    assert (answer["keys"], answer["totals"]) == ([], {"today": nothing, "last_30_days": nothing})
    assert served.get("/me/usage/daily", "org_nobody")["days"] == []


@pytest.mark.parametrize("path", ["/me/usage", "/me/usage/daily"])
def test_there_are_no_parameters(served: Api, path: str) -> None:
    assert served.refused(path, "org_a", from_="2026-06-01") == (400, "invalid_request", "from")


def test_each_key_was_used_last_when_its_newest_request_was_made(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=23, count=1_500, days=60)
    for n in range(0, len(rows), 500):
        insert(engine, rows[n : n + 500])
    last = {r.key_id: r for r in sorted(rows, key=lambda r: r.id) if r.org == "org_a"}
    assert served.get("/me/keys/use", "org_a") == {
        "as_of": ist.isoformat(NOW_MS),
        "keys": [
            {
                "key_id": key_id,
                "key_name": NAMES.get(key_id, (None, None))[1],
                "last_used_at": ist.isoformat(r.at_ms),
            }
            for key_id, r in sorted(last.items())
        ],
    }
    assert served.get("/me/keys/use", "org_nobody")["keys"] == []

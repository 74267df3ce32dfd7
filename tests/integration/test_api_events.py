"""`/me/activity/events`: pages that miss and repeat nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline import ist
from pipeline.api.routes import events
from pipeline.clickhouse.client import Engine
from pipeline.journal import PARTITIONS_MAX, public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import MODELS, PROVIDERS, Request, inr, insert, random_requests, request

PATH = "/me/activity/events"
NAMES = {f"org_a_key_{n}": ("org_a", f"key number {n}") for n in range(10)}


@pytest.fixture(params=[events.WINDOW_IDS, 60 * PARTITIONS_MAX], ids=["wide", "narrow"])
def served(request: pytest.FixtureRequest, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The API, looking back as far as it does, and so little that most pages need a second look."""
    monkeypatch.setattr(events, "WINDOW_IDS", request.param)
    with api(engine, key_names=NAMES) as running:
        yield running


def shown(r: Request) -> dict[str, Any]:
    return {
        "id": r.id,
        "at": ist.isoformat(r.at_ms),
        "model": r.model,
        "provider": r.provider or None,
        "status": r.status,
        "latency_ms": r.latency_ms,
        "tokens": r.tokens,
        "cost_inr": inr(r.cost_nano),
        "key_id": r.key_id,
        "key_name": NAMES.get(r.key_id, (None, None))[1],
    }


def newest_first(rows: list[Request], org: str) -> list[Request]:
    return sorted((r for r in rows if r.org == org), key=lambda r: -r.id)


def walk(served: Api, org: str, **given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = served.get(PATH, org, **given)
        found += page["events"]
        if page["next_before"] is None:
            return found
        assert page["next_before"] == page["events"][-1]["id"]
        given["before"] = page["next_before"]


def test_pages_hold_every_request_once_newest_first(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=30, count=1_200, days=80)
    for n in range(0, len(rows), 300):
        insert(engine, rows[n : n + 300])
    mine = newest_first(rows, "org_a")
    page = served.get(PATH, "org_a")
    assert page == {"events": [shown(r) for r in mine[:50]], "next_before": mine[49].id}
    for limit in (37, 200):
        assert walk(served, "org_a", limit=limit) == [shown(r) for r in mine]


def test_pages_miss_and_repeat_nothing_while_more_arrive(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=31, count=2_000, orgs=("org_a",), days=60)
    insert(engine, rows[:1_000])
    page = served.get(PATH, "org_a", limit=100)
    found = page["events"]
    arrived = 1_000
    while page["next_before"] is not None:
        insert(engine, rows[arrived : arrived + 100])
        arrived += 100
        page = served.get(PATH, "org_a", limit=100, before=page["next_before"])
        found += page["events"]
    assert arrived > 1_500
    assert found == [shown(r) for r in newest_first(rows[:1_000], "org_a")]
    assert [e["id"] for e in walk(served, "org_a", limit=200)] == [
        r.id for r in newest_first(rows[:arrived], "org_a")
    ]


def test_the_last_page_says_so_even_when_it_is_full(engine: Engine, served: Api) -> None:
    insert(engine, [request(public_id(0, n), "org_a", NOW_MS) for n in range(4)])
    first = served.get(PATH, "org_a", limit=2)
    second = served.get(PATH, "org_a", limit=2, before=first["next_before"])
    assert (len(first["events"]), len(second["events"]), second["next_before"]) == (2, 2, None)
    assert served.get(PATH, "org_b", before=1) == {"events": [], "next_before": None}


def test_before_is_any_number_not_only_an_id(engine: Engine, served: Api) -> None:
    rows = [request(public_id(5, n), "org_a", NOW_MS) for n in (0, 1, 2, 2**43 - 1)]
    insert(engine, rows)
    ids = [r.id for r in rows]
    for before, wanted in (
        (2**53, [ids[3], ids[2], ids[1], ids[0]]),
        (ids[3], [ids[2], ids[1], ids[0]]),
        (ids[1] + 1, [ids[1], ids[0]]),
        (ids[1], [ids[0]]),
        (ids[0], []),
        (1, []),
    ):
        page = served.get(PATH, "org_a", before=before)
        assert [event["id"] for event in page["events"]] == wanted


def test_filters_and_days(engine: Engine, served: Api) -> None:
    rows = random_requests(seed=32, count=1_500, days=40)
    insert(engine, rows)
    mine = newest_first(rows, "org_a")
    rng = random.Random(32)
    days = sorted({r.day for r in mine})
    for _ in range(25):
        first, last = sorted(rng.sample(days, 2))
        given = {
            name: value
            for name, value in (
                ("from_", first),
                ("to", last),
                ("model", rng.choice(MODELS)),
                ("key_id", f"org_a_key_{rng.randrange(13)}"),
                ("provider", rng.choice(PROVIDERS)),
            )
            if rng.random() < 0.5
        }
        wanted = [
            shown(r)
            for r in mine
            if given.get("from_", r.day) <= r.day <= given.get("to", r.day)
            and given.get("model", r.model) == r.model
            and given.get("key_id", r.key_id) == r.key_id
            and given.get("provider", r.provider) == r.provider
        ]
        assert walk(served, "org_a", limit=100, **given) == wanted, given


def test_a_late_request_stands_where_it_was_charged(engine: Engine, served: Api) -> None:
    base = request(public_id(0, 0), "org_a", NOW_MS)
    late = replace(base, id=public_id(0, 1), at_ms=NOW_MS - 30 * ist.DAY_MS)
    newest = replace(base, id=public_id(0, 2), at_ms=NOW_MS - 1)
    insert(engine, [base, late, newest])
    assert [e["id"] for e in served.get(PATH, "org_a")["events"]] == [newest.id, late.id, base.id]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "1_0"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "5.0"}, "limit"),
        ({"limit": " 5"}, "limit"),
        ({"limit": "५"}, "limit"),
        ({"limit": "9" * 400}, "limit"),
        ({"before": 0}, "before"),
        ({"before": 2**53 + 1}, "before"),
        ({"before": "-5"}, "before"),
        ({"before": "null"}, "before"),
        ({"before": ""}, "before"),
        ({"before": [5, 6]}, "before"),
        ({"offset": 5}, "offset"),
        ({"from_": "2026-06-02", "to": "2026-06-01"}, "from"),
        ({"from_": "yesterday"}, "from"),
    ],
)
def test_what_is_refused(served: Api, given: dict[str, Any], param: str) -> None:
    assert served.refused(PATH, "org_a", **given) == (400, "invalid_request", param)


def test_an_open_range_is_not_limited(engine: Engine, served: Api) -> None:
    old = request(public_id(0, 0), "org_a", NOW_MS - 800 * ist.DAY_MS)
    insert(engine, [old])
    for given in (
        {},
        {"from_": "2000-01-01"},
        {"to": "2026-06-13"},
        {"from_": "2000-01-01", "to": "2100-01-01"},
    ):
        assert served.get(PATH, "org_a", **given)["events"] == [shown(old)]

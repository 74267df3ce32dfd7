"""`/me/activity/events/{id}`: one request, and lines that add up to what it cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from pipeline import ist
from pipeline.catalog.rates import Rate, Tier
from pipeline.catalog.rating import cost_nano
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from pipeline.usage import CACHE_BESIDE, REASONING_BESIDE
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS, rate, rate_table
from tests.support.journal_rows import Request, inr, insert, request

RATE = rate(
    from_ms=NOW_MS - ist.DAY_MS,
    others_nano=(15_625, 100_000, 200_000),
    request_nano=50_000_000,
    tiers=(Tier(200_000, 25_000, 3_125, 75_000, (15_625, 100_000, 200_000)),),
)
OLDER = rate(from_ms=0, input_nano=1, cached_nano=1, output_nano=1)
ID = public_id(3, 77)


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    names = {"key_1": ("org_a", "the key's name")}
    with api(engine, key_names=names, rates=rate_table(OLDER, RATE)) as running:
        yield running


def made(**changes: Any) -> Request:
    """Return a request that cost what its rate comes to."""
    row = request(id=ID, org="org_a", at_ms=NOW_MS, rate_from_ms=RATE.from_ms, **changes)
    rates: dict[int, Rate] = {each.from_ms: each for each in (OLDER, RATE)}
    if "cost_nano" not in changes:
        row.cost_nano = cost_nano(rates[row.rate_from_ms], *row.counts)
    return row


def explained(served: Api, row: Request) -> dict[str, Any]:
    """Store a request and return how it is explained."""
    insert(served.context.database.shards[0], [row])
    found: dict[str, Any] = served.get(f"/me/activity/events/{row.id}", "org_a")
    return found


def lines_of(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the lines of a cost as tuples, after adding them up."""
    lines = found["cost"]["lines"]
    assert sum((line["amount_inr"] for line in lines), Decimal(0)) == found["cost"]["total_inr"]
    assert found["cost"]["total_inr"] == found["cost_inr"]
    return [
        (line["class"], line["quantity"], line.get("inr_per_mtok", line.get("inr")), line["amount_inr"])
        for line in lines
    ]


def test_everything_about_a_request_is_told(served: Api) -> None:
    row = made(error_code="", ttft_ms=119, reasoning_tokens=12)
    assert explained(served, row) == {
        "id": ID,
        "at": ist.isoformat(NOW_MS),
        "model": "krutrim-2",
        "provider": "krutrim",
        "status": 200,
        "latency_ms": 740,
        "tokens": 312,
        "cost_inr": inr(row.cost_nano),
        "key_id": "key_1",
        "key_name": "the key's name",
        "event_id": "e1",
        "source": "gateway/mum-1",
        "tier": "standard",
        "byok": False,
        "error_code": None,
        "ttft_ms": 119,
        "stream": True,
        "posted_at": ist.isoformat(NOW_MS),
        "irregular": False,
        "usage": {
            "prompt_tokens": 200,
            "cached_tokens": 64,
            "cache_write_tokens": 0,
            "audio_input_tokens": 0,
            "completion_tokens": 112,
            "audio_output_tokens": 0,
            "reasoning_tokens": 12,
        },
        "cost": {
            "free": None,
            "rate_from": ist.isoformat(RATE.from_ms),
            "tier_above": None,
            "lines": [
                {
                    "class": "input",
                    "quantity": 136,
                    "inr_per_mtok": Decimal("12.5"),
                    "amount_inr": Decimal("0.0017"),
                },
                {
                    "class": "cached_input",
                    "quantity": 64,
                    "inr_per_mtok": Decimal("3.125"),
                    "amount_inr": Decimal("0.0002"),
                },
                {"class": "output", "quantity": 112, "inr_per_mtok": 50, "amount_inr": Decimal("0.0056")},
                {"class": "request", "quantity": 1, "inr": Decimal("0.05"), "amount_inr": Decimal("0.05")},
            ],
            "total_inr": Decimal("0.0575"),
        },
    }


def test_every_class_and_the_tier_have_their_lines(served: Api) -> None:
    found = explained(
        served,
        made(
            prompt_tokens=300_000,
            cached_tokens=1000,
            cache_write_tokens=200,
            audio_input_tokens=100,
            completion_tokens=500,
            audio_output_tokens=80,
        ),
    )
    assert found["cost"]["tier_above"] == 200_000
    assert lines_of(found) == [
        ("input", 298_700, 25, Decimal("7.4675")),
        ("cached_input", 1000, Decimal("3.125"), Decimal("0.003125")),
        ("cache_write", 200, Decimal("15.625"), Decimal("0.003125")),
        ("audio_input", 100, 100, Decimal("0.01")),
        ("output", 420, 75, Decimal("0.0315")),
        ("audio_output", 80, 200, Decimal("0.016")),
        ("request", 1, Decimal("0.05"), Decimal("0.05")),
    ]


@pytest.mark.parametrize(
    ("changes", "quantities", "tokens"),
    [
        (
            {"prompt_tokens": 279, "cached_tokens": 149, "completion_tokens": 6, "reasoning_tokens": 89},
            {"input": 130, "cached_input": 149, "output": 95, "request": 1},
            374,
        ),
        (
            {"prompt_tokens": 1, "cached_tokens": 965_602, "completion_tokens": 84},
            {"input": 1, "cached_input": 965_602, "output": 84, "request": 1},
            85,
        ),
    ],
    ids=["reasoning beside", "cache beside"],
)
def test_what_was_counted_beside_has_its_line_and_the_mark_shows(
    served: Api, changes: dict[str, int], quantities: dict[str, int], tokens: int
) -> None:
    irregular = REASONING_BESIDE if "reasoning_tokens" in changes else CACHE_BESIDE
    found = explained(served, made(irregular=irregular, **changes))
    assert found["irregular"] is True
    assert {name: quantity for name, quantity, *_ in lines_of(found)} == quantities
    assert found["tokens"] == tokens


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({"tier": "trial"}, "trial"),
        ({"byok": True}, "byok"),
        ({"status": 502, "error_code": "upstream", "provider": "", "ttft_ms": None}, "failed"),
    ],
)
def test_a_free_request_says_why_and_has_no_lines(served: Api, changes: dict[str, Any], free: str) -> None:
    found = explained(served, made(cost_nano=0, **changes))
    assert found["cost"] == {
        "free": free,
        "rate_from": None,
        "tier_above": None,
        "lines": [],
        "total_inr": 0,
    }
    if free == "failed":
        assert (found["error_code"], found["provider"], found["ttft_ms"]) == ("upstream", None, None)


def test_an_older_request_is_explained_by_the_rate_it_was_charged_by(served: Api) -> None:
    row = request(id=ID, org="org_a", at_ms=0, rate_from_ms=0, cost_nano=312)
    found = explained(served, row)
    assert found["cost"]["rate_from"] == ist.isoformat(0)
    assert [(name, quantity) for name, quantity, *_ in lines_of(found)] == [
        ("input", 136),
        ("cached_input", 64),
        ("output", 112),
    ]


def test_what_does_not_exist_and_what_is_another_orgs_look_the_same(served: Api) -> None:
    insert(served.context.database.shards[0], [made()])
    for org, row_id in (("org_b", ID), ("org_a", ID + 1), ("org_a", 0), ("org_a", 2**53 - 1)):
        assert served.refused(f"/me/activity/events/{row_id}", org) == (404, "not_found", None)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "+1", "1e3", str(2**53), "9" * 30])
def test_what_is_no_id_is_refused(served: Api, text: str) -> None:
    assert served.refused(f"/me/activity/events/{text}", "org_a") == (400, "invalid_request", "id")


@pytest.mark.parametrize("changes", [{"model": "unknown"}, {"cost_nano": 1}], ids=str)
def test_a_cost_that_cannot_be_explained_is_not_explained_wrongly(
    served: Api, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    insert(served.context.database.shards[0], [made(**changes)])
    with caplog.at_level(logging.ERROR):
        assert served.refused(f"/me/activity/events/{ID}", "org_a")[:2] == (503, "unavailable")
    assert str(ID) in caplog.text

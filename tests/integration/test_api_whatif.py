"""`POST /me/whatif` over the real engine, against prices of single rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import structs

from pipeline import ist
from pipeline.catalog.rates import Rate, RateTable, Tier
from pipeline.catalog.rating import cost_nano, is_free
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import query
from pipeline.whatif import PriceGroup, boundaries, rate_for, repriced
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import MODELS, ORGS, PROVIDERS, Request, inr, insert, random_requests

FIRST, LAST = "2026-05-20", "2026-06-10"
TODAY_MS = ist.day_start_ms(ist.day_of(NOW_MS))
SOON = ("gpt-dear", "elsewhere")


@pytest.fixture(scope="module")
def rates() -> RateTable:
    """All routes of the rows, with tiers, fees, and rates that change within a day; and one more model."""
    table = RateTable()
    for n, model in enumerate(MODELS):
        for m, provider in enumerate(PROVIDERS):
            tier = Tier(500 + 300 * m, 9_000 + n, 800 + m, 21_000 + n, (7_000, 8_000, 9_000))
            table.add(Rate(model, provider, 0, 5_000 + n, 500 + m, 13_000, request_nano=n * 100))
            at_ms = TODAY_MS - 8 * ist.DAY_MS + ist.DAY_MS // 3
            table.add(Rate(model, provider, at_ms, 6_000 + n, 600 + m, 12_000, tiers=(tier,)))
    table.add(Rate(*SOON, TODAY_MS + ist.DAY_MS, 70_000, 7_000, 200_000))
    return table


def priced_nano(rates: RateTable, row: Request, model: str, provider: str) -> int:
    """Price one row by itself."""
    rate = rate_for(rates, (model, provider), row.at_ms)
    assert rate is not None
    others = row.cache_write_tokens, row.audio_input_tokens, row.audio_output_tokens
    counts = row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.reasoning_tokens
    return cost_nano(rate, *counts, others, row.irregular)


@pytest.fixture
def rows(engine: Engine, rates: RateTable) -> list[Request]:
    """Requests that cost what the catalog says; those that were charged, of org_a, are returned."""
    made = random_requests(seed=61, count=3_000, days=44)
    made = [
        structs.replace(
            row, cost_nano=0 if is_free(row) else priced_nano(rates, row, row.model, row.provider)
        )
        for row in made
    ]
    insert(engine, made)
    return [row for row in made if row.org == "org_a" and not is_free(row)]


@pytest.fixture
def served(engine: Engine, rates: RateTable) -> Iterator[Api]:
    with api(engine, rates=rates) as running:
        yield running


def post(served: Api, body: object, org: str = "org_a") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {served.token(org)}"}
    answer = served.client.post("/me/whatif", json=body, headers=headers)
    return answer.status_code, json.loads(answer.text, parse_float=Decimal)


def test_the_present_catalog_gives_exactly_what_was_debited(served: Api, rows: list[Request]) -> None:
    status, told = post(served, {"from": FIRST, "to": LAST})
    assert status == 200, told
    in_range = [row for row in rows if FIRST <= row.day <= LAST]
    assert told["actual_inr"] == told["whatif_inr"] == inr(sum(row.cost_nano for row in in_range))
    assert sum(each["requests"] for each in told["models"]) == len(in_range) > 200
    assert all(each["actual_inr"] == each["whatif_inr"] for each in told["models"])


def test_another_route_costs_what_its_rates_make_of_each_request(
    served: Api, rows: list[Request], rates: RateTable
) -> None:
    first, second, *_ = MODELS
    routes = {first: {"model": second, "provider": PROVIDERS[1]}, second: SOON[0]}
    status, told = post(served, {"from": FIRST, "to": LAST, "routes": routes})
    assert status == 200, told
    as_route = {first: (second, PROVIDERS[1]), second: SOON}
    in_range = [row for row in rows if FIRST <= row.day <= LAST]
    whatif_nano = sum(
        priced_nano(rates, row, *as_route.get(row.model, (row.model, row.provider))) for row in in_range
    )
    assert told["whatif_inr"] == inr(whatif_nano) != told["actual_inr"]
    [of_first] = [each for each in told["models"] if each["model"] == first]
    assert (of_first["as_model"], of_first["as_provider"]) == as_route[first]
    # A name alone means the provider that served, where it has that model too.
    status, named = post(served, {"from": FIRST, "to": LAST, "routes": {first: second}})
    assert {each["as_provider"] for each in named["models"] if each["model"] == first} == set(PROVIDERS)


def test_other_providers_of_the_same_model_are_compared_where_that_is_fair(
    served: Api, rows: list[Request], rates: RateTable
) -> None:
    told = served.get("/me/whatif/providers", "org_a", **{"from": FIRST, "to": LAST})
    in_range = [row for row in rows if FIRST <= row.day <= LAST]
    assert [each["model"] for each in told["models"]] == sorted(
        {row.model for row in in_range},
        key=lambda model: -sum(row.cost_nano for row in in_range if row.model == model),
    )
    for each in told["models"]:
        some = [row for row in in_range if row.model == each["model"]]
        # Every route has had a rate from the beginning, and more than one provider served each model.
        costs = {p: sum(priced_nano(rates, row, each["model"], p) for row in some) for p in PROVIDERS}
        assert (each["as_model"], each["requests"]) == (each["model"], len(some))
        assert each["actual_inr"] == inr(sum(row.cost_nano for row in some))
        assert each["whatif_inr"] == inr(costs[each["as_provider"]]) == inr(min(costs.values()))
    assert told["left_out"] == []


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"from": "2026-06-12", "to": "2026-06-01"}, "from"), ({"to": "2026-06-31"}, "to"), ({"at": "1"}, "at")],
)
def test_a_bad_range_is_told_what_is_wrong(served: Api, asked: dict[str, str], param: str) -> None:
    assert served.refused("/me/whatif/providers", "org_a", **asked) == (400, "invalid_request", param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"routes": {"krutrim-2": "no such model"}}, "routes"),
        ({"routes": {"krutrim-2": {"model": "krutrim-2", "provider": "nobody"}}}, "routes"),
        ({"routes": {SOON[0]: "krutrim-2"}}, "routes"),
        ({"from": "2026-06-31"}, "from"),
        ({"from": "2026-06-12", "to": "2026-06-01"}, "from"),
        ({"from": "2024-06-12", "to": "2026-06-01"}, "from"),
        ({"org": "org_b"}, "org"),
    ],
)
def test_a_bad_question_is_told_what_is_wrong(served: Api, body: object, param: str) -> None:
    status, told = post(served, body)
    assert (status, told["error"]["code"]) == (400, "invalid_request"), told
    assert told["error"]["param"].startswith(param)


def test_the_operators_query_adds_the_orgs_up(engine: Engine, rows: list[Request], rates: RateTable) -> None:
    def of(org: str) -> int:
        bound = query("whatif_platform").of_platform(
            one_org=org, from_day="2026-01-01", to_day="2026-12-31", **boundaries(rates, 0, NOW_MS)
        )
        lines = engine.query_bytes(bound.sql, bound.parameters, output="JSONCompactEachRow").splitlines()
        decoder = msgspec.json.Decoder(PriceGroup, strict=False)
        found = repriced(map(decoder.decode, lines), rates, {})
        assert found.actual_nano == found.whatif_nano
        return found.whatif_nano

    assert of("org_a") == sum(row.cost_nano for row in rows)
    assert of("") == sum(map(of, ORGS))

"""`/v1/rankings` and `/v1/catalog`: for everyone, and about nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipeline import ist
from pipeline.api.routes.rankings import KEPT_MS
from pipeline.catalog.rates import RateTable, Tier
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.journal import public_id
from tests.support.api.client import api
from tests.support.builders import NOW_MS, rate, rate_table
from tests.support.journal_rows import MODELS, Request, insert, random_requests, request

ON_CATALOG = MODELS[:3]
TODAY = ist.day_of(NOW_MS)


def catalog() -> RateTable:
    return rate_table(*(rate(model=model, provider="krutrim") for model in ON_CATALOG))


def ranked(rows: list[Request], days: int) -> list[dict[str, Any]]:
    first, last = (ist.date_of(day).isoformat() for day in (TODAY - days + 1, TODAY))
    requests: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for r in rows:
        if first <= r.day <= last and r.model in ON_CATALOG:
            requests[r.model] += 1
            tokens[r.model] += r.tokens
    return [
        {"model": m, "requests": requests[m], "tokens": tokens[m]}
        for m in sorted(requests, key=lambda m: -tokens[m])
    ]


def test_rankings_of_the_whole_platform(engine: Engine) -> None:
    rows = random_requests(seed=40, count=3_000, days=40)
    insert(engine, rows)
    with api(engine, rates=catalog()) as served:
        assert served.get("/v1/rankings") == {
            "as_of": ist.isoformat(NOW_MS),
            "windows": {"7d": ranked(rows, 7), "30d": ranked(rows, 30)},
        }


def test_only_models_with_a_rate_in_force(engine: Engine) -> None:
    insert(engine, [request(public_id(0, n), "org_a", NOW_MS, model=m) for n, m in enumerate("abc")])
    table = rate_table(rate(model="a"), rate(model="b", from_ms=NOW_MS + 1))
    with api(engine, rates=table) as served:
        assert [m["model"] for m in served.get("/v1/rankings")["windows"]["7d"]] == ["a"]


def test_rankings_are_kept_two_minutes_and_not_beyond_their_day(engine: Engine) -> None:
    insert(engine, [request(public_id(0, 0), "org_a", NOW_MS)])

    with api(engine) as served:

        def requests() -> int:
            found: int = served.get("/v1/rankings")["windows"]["30d"][0]["requests"]
            return found

        assert requests() == 1
        insert(engine, [request(public_id(0, 1), "org_a", NOW_MS)])
        served.clock[0] += KEPT_MS - 1
        assert requests() == 1
        served.clock[0] += 1
        assert requests() == 2
        insert(engine, [request(public_id(0, 2), "org_a", NOW_MS)])
        served.clock[0] = ist.day_start_ms(TODAY + 1) - 1
        assert requests() == 3
        insert(engine, [request(public_id(0, 3), "org_a", NOW_MS)])
        served.clock[0] += 1
        assert requests() == 4


def test_an_empty_answer_is_not_kept(engine: Engine) -> None:
    with api(engine) as served:
        empty = served.client.get("/v1/rankings")
        assert empty.json()["windows"] == {"7d": [], "30d": []}
        assert empty.headers["Cache-Control"] == "no-store"
        insert(engine, [request(public_id(0, 0), "org_a", NOW_MS)])
        full = served.client.get("/v1/rankings")
        assert len(full.json()["windows"]["7d"]) == 1
        assert full.headers["Cache-Control"] == "public, max-age=60"


async def test_many_at_once_ask_the_engine_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    insert(engine, [request(public_id(0, 0), "org_a", NOW_MS)])
    asked = 0
    real: Callable[..., bytes] = engine.query_bytes

    def counted(*args: Any, **kwargs: Any) -> bytes:
        nonlocal asked
        asked += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(engine, "query_bytes", counted)
    with api(engine) as served:
        transport = httpx2.ASGITransport(app=served.client.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = await asyncio.gather(*(client.get("/v1/rankings") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert asked == 1


def test_a_failure_is_not_kept(empty_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = empty_engine.query_bytes

    def down(*_: Any, **__: Any) -> list[Any]:
        raise EngineUnavailable("down")

    with api(empty_engine) as served:
        monkeypatch.setattr(empty_engine, "query_bytes", down)
        assert served.refused("/v1/rankings") == (503, "unavailable", None)
        monkeypatch.setattr(empty_engine, "query_bytes", real)
        migrate(empty_engine)
        assert served.get("/v1/rankings")["windows"] == {"7d": [], "30d": []}


def test_the_catalog_shows_rates_in_force_and_announced(engine: Engine) -> None:
    table = rate_table(
        rate(from_ms=0),
        rate(from_ms=NOW_MS, input_nano=1, cached_nano=0, output_nano=100_000_000),
        rate(from_ms=NOW_MS + 60_000, input_nano=12_345, cached_nano=12_345),
        rate(provider="e2e", from_ms=NOW_MS + 1),
    )
    with api(engine, rates=table) as served:
        answer = served.get("/v1/catalog")
    assert answer["as_of"] == "2026-06-13T00:00:00.000+05:30"
    assert [tuple(route.values()) for route in answer["routes"]] == [
        ("krutrim-2", "e2e", "2026-06-13T00:00:00.001+05:30", Decimal("12.5"), Decimal("3.125"), 50),
        ("krutrim-2", "krutrim", "2026-06-13T00:00:00.000+05:30", Decimal("0.001"), 0, 100_000),
        ("krutrim-2", "krutrim", "2026-06-13T00:01:00.000+05:30", Decimal("12.345"), Decimal("12.345"), 50),
    ]


def test_models_have_every_price_in_force_with_their_tiers(engine: Engine) -> None:
    tiers = (
        Tier(200_000, input_nano=25_000, cached_nano=1, output_nano=75_000),
        Tier(1_000, input_nano=13_000, cached_nano=13_000, output_nano=51_000),
    )
    table = rate_table(
        rate(from_ms=0),
        rate(from_ms=NOW_MS, request_nano=50_000_000, tiers=tiers),
        rate(from_ms=NOW_MS + 1, input_nano=1),
        rate(provider="e2e", from_ms=NOW_MS + 1),
        rate(model="a-model", provider="e2e", from_ms=0, others_nano=(1, 2_000, 3_000_000)),
    )
    with api(engine, rates=table) as served:
        answer = served.get("/v1/models")
    assert answer["as_of"] == ist.isoformat(NOW_MS)
    assert [(m["model"], [p["provider"] for p in m["providers"]]) for m in answer["models"]] == [
        ("a-model", ["e2e"]),
        ("krutrim-2", ["krutrim"]),
    ]
    [other], [shown] = (model["providers"] for model in answer["models"])
    classes = ("cache_write", "audio_input", "audio_output")
    assert [other[f"{name}_inr_per_mtok"] for name in classes] == [Decimal("0.001"), 2, 3_000]
    assert (other["request_inr"], other["tiers"]) == (0, [])
    assert (shown["effective_from"], shown["request_inr"]) == (ist.isoformat(NOW_MS), Decimal("0.05"))
    assert shown["input_inr_per_mtok"] == shown["cache_write_inr_per_mtok"] == Decimal("12.5")
    prices = ("above_prompt_tokens", "input_inr_per_mtok", "cached_input_inr_per_mtok", "output_inr_per_mtok")
    assert [[tier[name] for name in prices] for tier in shown["tiers"]] == [
        [1_000, 13, 13, 51],
        [200_000, 25, Decimal("0.001"), 75],
    ]
    assert shown["tiers"][1]["audio_output_inr_per_mtok"] == 75


def test_the_catalog_changes_as_rates_are_applied(engine: Engine) -> None:
    table = RateTable()
    with api(engine, rates=table) as served:
        assert served.get("/v1/catalog")["routes"] == []
        table.add(rate())
        assert len(served.get("/v1/catalog")["routes"]) == 1


def test_the_docs_need_nothing_from_elsewhere(engine: Engine) -> None:
    with api(engine) as served:
        page = served.client.get("/docs")
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert "https://" not in page.text
        for name, kind in (
            ("swagger-ui-bundle.js", "javascript"),
            ("swagger-ui.css", "css"),
            ("docs.js", "java"),
        ):
            assert f"/docs/{name}" in page.text
            file = served.client.get(f"/docs/{name}")
            assert file.status_code == 200 and kind in file.headers["Content-Type"]
        for name in ("app.py", "..%2fapp.py", "swagger-ui.LICENSE"):
            assert served.client.get(f"/docs/{name}").status_code == 404
    static = Path(__file__).resolve().parents[2] / "pipeline" / "api" / "static"
    assert "Apache License" in (static / "swagger-ui.LICENSE").read_text(encoding="utf-8")

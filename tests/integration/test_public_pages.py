"""The pages for everybody over HTTP: what stands in them, what of them is kept, and what they do without the engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from httpx2 import Response

from pipeline.api.pages.kept_pages import KEPT_MS
from pipeline.catalog.rates import Tier
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS, rate, rate_table
from tests.support.journal_rows import insert, request

DAY_MS = 86_400_000
PAGES = ("/", "/rankings", "/rankings?days=30", "/models")
TABLE = rate_table(
    rate(model="a", tiers=(Tier(200_000, 25_000, 3_125, 75_000),)),
    rate(model="a", provider="e2e", input_nano=10_000),
    rate(model="<b>", output_nano=0),
)


def _used(engine: Engine) -> None:
    """Ten requests of a in the last week, five of <b>, and thirty of <b> three weeks ago."""
    rows = [request(public_id(0, n), "org_a", NOW_MS, model="a" if n < 10 else "<b>") for n in range(15)]
    rows += [
        request(public_id(0, n), "org_a", NOW_MS - 21 * DAY_MS, model="<b>", provider="e2e")
        for n in range(15, 45)
    ]
    insert(engine, rows)


def _values(page: Response, metric: str) -> list[str]:
    """Return the exact values of a metric, in their order on a page."""
    return re.findall(rf'data-metric="{metric}" data-value="([^"]*)"', page.text)


def test_the_numbers_in_the_pages_are_the_apis(engine: Engine) -> None:
    _used(engine)
    with api(engine, rates=TABLE) as served:
        windows = served.get("/v1/rankings")["windows"]
        for path, window in (("/rankings", "7d"), ("/rankings?days=30", "30d"), ("/", "7d")):
            page = served.client.get(path)
            for metric in ("tokens", "requests"):
                assert _values(page, metric) == [str(model[metric]) for model in windows[window]], path
        assert [model["model"] for model in windows["7d"]] == ["a", "<b>"]
        assert [model["model"] for model in windows["30d"]] == ["<b>", "a"]
        page = served.client.get("/models")
        by_model = {model["model"]: model["providers"] for model in served.get("/v1/models")["models"]}
        [krutrim] = [each for each in by_model["a"] if each["provider"] == "krutrim"]
        [b] = by_model["<b>"]
        for name in ("input_inr_per_mtok", "cached_input_inr_per_mtok", "output_inr_per_mtok"):
            # By model, the cheapest input first, a tier under its rate.
            [e2e] = [each for each in by_model["a"] if each["provider"] == "e2e"]
            listed = [b[name], e2e[name], krutrim[name], krutrim["tiers"][0][name]]
            assert _values(page, name) == [str(value) for value in listed]
        assert "with more than 2,00,000 prompt tokens" in page.text
        assert "<b>" not in page.text and "&lt;b&gt;" in page.text


def test_strangers_are_answered_from_what_is_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real: Callable[..., bytes] = engine.query_bytes

    def counted(*args: Any, **more: Any) -> bytes:
        asked.append(args)
        return real(*args, **more)

    monkeypatch.setattr(engine, "query_bytes", counted)
    with api(engine, rates=TABLE) as served:
        for path in PAGES:
            asked.clear()
            first = served.client.get(path)
            assert first.status_code == 200
            assert first.headers["cache-control"] == f"public, max-age={KEPT_MS // 1000}"
            assert "cookie" in first.headers["vary"].lower() and first.headers["content-encoding"] == "gzip"
            assert "'unsafe" not in first.headers["content-security-policy"]
            # The rankings are empty, so they are not kept by themselves.
            reads = 0 if path == "/models" else 1
            assert len(asked) == reads, path
            served.clock[0] += KEPT_MS - 1
            plain = served.client.get(path, headers={"Accept-Encoding": "identity"})
            assert "content-encoding" not in plain.headers and plain.text == first.text
            assert len(asked) == reads, path
            served.clock[0] += 1
            served.client.get(path)
            assert len(asked) == 2 * reads, path


def test_a_member_keeps_the_navigation_of_the_org(engine: Engine) -> None:
    with api(engine) as served:
        for path in PAGES:
            served.client.cookies.clear()
            stranger = served.client.get(path)
            assert 'href="/login"' in stranger.text and 'href="/overview"' not in stranger.text
            _sign_in(served)
            page = served.client.get(path, follow_redirects=False)
            if path == "/":
                assert (page.status_code, page.headers["location"]) == (303, "/overview")
                continue
            assert 'href="/overview"' in page.text and "org_acme" in page.text
            assert page.headers["cache-control"] == "private, no-store"
            served.client.cookies.clear()
            assert "org_acme" not in served.client.get(path).text


def _sign_in(served: Api) -> None:
    served.client.cookies.set("br_session", served.token("org_acme"))


def test_an_empty_product_says_what_comes_next(engine: Engine) -> None:
    with api(engine, rates=rate_table(rate(from_ms=NOW_MS + 1))) as served:
        for path in ("/", "/models"):
            assert "metering catalog apply" in served.client.get(path).text
        for path in ("/", "/rankings"):
            assert "No requests in the last 7 days." in served.client.get(path).text


def test_without_the_engine_the_rest_stays(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> list[Any]:
        raise EngineUnavailable("down")

    monkeypatch.setattr(engine, "query_bytes", down)
    with api(engine, rates=TABLE) as served:
        home = served.client.get("/")
        assert home.status_code == 200 and "not available right now" in home.text
        assert _values(home, "input_inr_per_mtok") == ["12.5", "10"]
        assert served.client.get("/models").status_code == 200
        rankings = served.client.get("/rankings")
        assert rankings.status_code == 503 and "Nothing was lost" in rankings.text
        monkeypatch.undo()
        assert served.client.get("/rankings").status_code == 200


def test_days_that_are_no_window_are_told_in_words(engine: Engine) -> None:
    with api(engine) as served:
        for days in ("8", "", "07", "7 ", "<script>"):
            page = served.client.get("/rankings", params={"days": days})
            assert page.status_code == 400 and "Days must be 7 or 30." in page.text, days
            assert "<script>" not in page.text

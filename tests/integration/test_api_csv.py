"""`/me/activity/events.csv` and `/me/activity.csv`: whole files, exact, and nothing in them that a spreadsheet computes."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest

from pipeline import ist
from pipeline.api.http.cells import safe_cell
from pipeline.api.routes import csv_files
from pipeline.api.services.exports import FILES_AT_ONCE, Exports
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import MODELS, Request, insert, random_requests, request

EVENTS, DAYS = "/me/activity/events.csv", "/me/activity.csv"
NAMES = {f"org_a_key_{n}": ("org_a", f"key, number {n}") for n in range(10)} | {
    "org_a_key_10": ("org_a", "=cmd()"),
    "org_b_key_1": ("org_b", "b's"),
}
FIRST = ist.date_of(ist.day_of(NOW_MS) - 29).isoformat()
TODAY = ist.date_of(ist.day_of(NOW_MS)).isoformat()


@pytest.fixture(params=[20_000, 100], ids=["one piece", "many pieces"])
def served(engine: Engine, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(csv_files, "ROWS_A_PIECE", request.param)
    monkeypatch.setattr(csv_files, "DAYS_A_PIECE", 31 if request.param > 100 else 3)
    with api(engine, key_names=NAMES) as running:
        yield running


def read(served: Api, path: str, org: str, **given: str) -> list[dict[str, str]]:
    headers = {"Authorization": f"Bearer {served.token(org)}"}
    named = {name.rstrip("_"): value for name, value in given.items()}
    response = served.client.get(path, params=named, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.text, newline=""), strict=True))


def name_of(key_id: str) -> str:
    return safe_cell(NAMES.get(key_id, ("", ""))[1])


def kept(rows: list[Request], first: str, last: str, **filters: str) -> list[Request]:
    return [
        r
        for r in rows
        if r.org == "org_a"
        and first <= r.day <= last
        and all(getattr(r, name) == value for name, value in filters.items())
    ]


@pytest.mark.parametrize("filters", [{}, {"model": MODELS[2], "provider": "e2e"}, {"key_id": "org_a_key_10"}])
def test_the_file_of_requests_holds_each_once_newest_first(
    engine: Engine, served: Api, filters: dict[str, str]
) -> None:
    rows = random_requests(seed=61, count=1_500, days=40)
    insert(engine, rows)
    wanted = sorted(kept(rows, FIRST, TODAY, **filters), key=lambda r: -r.id)
    assert wanted
    assert read(served, EVENTS, "org_a", **filters) == [
        {
            "at_ist": ist.isoformat(r.at_ms),
            "model": r.model,
            "provider": r.provider,
            "status": str(r.status),
            "latency_ms": str(r.latency_ms),
            "tokens": str(r.tokens),
            "cost_inr": plain(r.cost_nano),
            "key_id": r.key_id,
            "key_name": name_of(r.key_id),
            "id": str(r.id),
        }
        for r in wanted
    ]


def plain(cost_nano: int) -> str:
    text = f"{Decimal(cost_nano).scaleb(-9):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@pytest.mark.parametrize("filters", [{}, {"model": MODELS[2], "provider": "e2e"}, {"key_id": "org_a_key_3"}])
def test_the_file_of_sums_by_day_model_key_and_provider(
    engine: Engine, served: Api, filters: dict[str, str]
) -> None:
    rows = random_requests(seed=62, count=1_500, days=40)
    insert(engine, rows)
    groups: defaultdict[tuple[str, ...], list[Request]] = defaultdict(list)
    for r in kept(rows, "2026-05-20", "2026-06-09", **filters):
        groups[r.day, r.model, r.key_id, r.provider].append(r)
    assert read(served, DAYS, "org_a", from_="2026-05-20", to="2026-06-09", **filters) == [
        {
            "day_ist": day,
            "model": model,
            "key_id": key_id,
            "key_name": name_of(key_id),
            "provider": provider,
            "requests": str(len(group)),
            "tokens": str(sum(r.tokens for r in group)),
            "cost_inr": plain(sum(r.cost_nano for r in group)),
            "errors": str(sum(r.failed for r in group)),
        }
        for (day, model, key_id, provider), group in sorted(groups.items())
    ]


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n x", "＝1")  # noqa: RUF001
HARMLESS = ("krutrim-2", "a=1", "a\n=1", "'=1", "", "é-1")


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_compute_is_a_text(engine: Engine, text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    names = {text: ("org_a", text)}
    insert(engine, [request(public_id(0, 1), "org_a", NOW_MS, model=text, provider=text, key_id=text)])
    with api(engine, key_names=names) as served:
        for path in (EVENTS, DAYS):
            [row] = read(served, path, "org_a")
            assert {row[name] for name in ("model", "provider", "key_id", "key_name")} == {f"'{text}"}, path


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(engine: Engine, text: str) -> None:
    assert safe_cell(text) == text
    insert(engine, [request(public_id(0, 1), "org_a", NOW_MS, model=text, provider=text, key_id=text)])
    with api(engine) as served:
        for path in (EVENTS, DAYS):
            [row] = read(served, path, "org_a")
            assert {row[name] for name in ("model", "provider", "key_id")} == {text}, path


def test_a_file_without_rows_has_its_columns_and_its_name(engine: Engine) -> None:
    with api(engine) as served:
        for path, what in ((EVENTS, "requests"), (DAYS, "usage")):
            headers = {"Authorization": f"Bearer {served.token('org/ü')}"}
            answer = served.client.get(f"{path}?from=2026-06-01&to=2026-06-02", headers=headers)
            assert re.fullmatch(r"(at|day)_ist,model,[a-z_,]+\n", answer.text)
            assert answer.headers["Content-Disposition"] == (
                f'attachment; filename="{what}_org___2026-06-01_2026-06-02.csv"; '
                f"filename*=UTF-8''{what}_org%2F%C3%BC_2026-06-01_2026-06-02.csv"
            )


@pytest.mark.parametrize("path", [EVENTS, DAYS])
def test_bad_parameters_and_an_engine_that_is_away_are_told_before_the_file_begins(
    engine: Engine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api(engine) as served:
        assert served.refused(path, "org_a", from_="2025-01-01", to="2026-02-05")[2] == "from"
        assert served.refused(path, "org_a", limit="5") == (400, "invalid_request", "limit")

        def down(*_: Any, **__: Any) -> bytes:
            raise EngineUnavailable("down")

        monkeypatch.setattr(engine, "query_bytes", down)
        for _ in range(10):
            assert served.refused(path, "org_a") == (503, "unavailable", None)
        monkeypatch.undo()
        assert read(served, path, "org_a") == []


def test_one_file_of_an_org_and_few_in_all_at_a_time(engine: Engine) -> None:
    with api(engine) as served:
        exports = served.client.app.state.exports  # type: ignore[attr-defined]
        assert isinstance(exports, Exports)
        with exports.one_of("org_a"):
            assert served.refused(EVENTS, "org_a") == (429, "rate_limit_exceeded", None)
            assert read(served, EVENTS, "org_b") == []
            with ExitStack() as others:
                for number in range(FILES_AT_ONCE - 1):
                    others.enter_context(exports.one_of(f"other_{number}"))
                assert served.refused(DAYS, "org_b") == (429, "rate_limit_exceeded", None)
        assert read(served, DAYS, "org_a") == []


async def test_a_client_that_leaves_gives_the_place_of_its_file_back_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when its pieces are collected as garbage, which may be minutes later: there are few places."""
    monkeypatch.setattr(csv_files, "ROWS_A_PIECE", 2)
    insert(engine, [request(id=public_id(0, n), org="org_a", at_ms=NOW_MS - n) for n in range(20)])
    with api(engine) as served:
        app: Any = served.client.app
        sent, free, left = list[Any](), list[bool](), asyncio.Event()
        app.state.exports.reading = asyncio.Semaphore(1)

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if len(sent) > 2:
                free.append(not app.state.exports.reading.locked())
                left.set()
                await asyncio.Event().wait()

        headers = [(b"authorization", f"Bearer {served.token('org_a')}".encode())]
        scope = {"type": "http", "method": "GET", "path": EVENTS, "query_string": b"", "headers": headers}
        gc.disable()
        try:
            await asyncio.wait_for(app(scope, receive, send), 10)
            assert len(sent) == 3
            # While it was not taken it kept nobody from being read for.
            assert free == [True]
            with app.state.exports.one_of("org_a"):
                pass
        finally:
            gc.enable()

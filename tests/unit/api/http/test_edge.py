"""Every request has an id: in its answer, in its envelope, and on each line that is logged while it is served."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from pipeline import request_id
from pipeline.api.http import edge
from pipeline.api.server.app import create_app
from pipeline.api.services.context import AppContext
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.logs import OfRequest

log = logging.getLogger("pipeline.test")
extra = APIRouter()


@extra.get("/test/{thing}/said")
async def said(thing: str) -> dict[str, str | None]:
    """Log a line, and answer with the id that is known here."""
    log.info("served %s", thing)
    return {"id": request_id.current.get()}


@extra.get("/test/{thing}/threaded")
def threaded(thing: str) -> dict[str, str | None]:
    """Do the same in a thread, as the framework runs what is not async."""
    log.info("served %s", thing)
    return {"id": request_id.current.get()}


@extra.get("/test/{thing}/away")
async def away(thing: str) -> None:
    """Fail as where the database is away."""
    raise EngineUnavailable(thing)


async def _not_yet() -> str | None:
    return "joining the group"


class _Kept(logging.Handler):
    """Keeps the lines that it is given, each with what our own handler puts on it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Any] = []
        self.addFilter(OfRequest())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record)

    def of(self, name: str) -> list[Any]:
        """Return the lines of a logger."""
        return [line for line in self.lines if line.name == name]


@pytest.fixture
def client() -> Iterator[TestClient]:
    context = AppContext(
        database=cast(Engine, None),  # nothing here reads from it
        key_names={},
        rates=RateTable(),
        session_secret="s" * 32,
        now_ms=lambda: 0,
        checks={"kafka": _not_yet},
    )
    app: FastAPI = create_app(context)
    app.include_router(extra)
    with TestClient(app) as running:
        yield running


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Kept]:
    """The lines that are logged, of requests that count as slow after an hour: this machine may be busy."""
    monkeypatch.setattr(edge, "SLOW_MS", 3_600_000)
    handler, product = _Kept(), logging.getLogger("pipeline")
    level = product.level
    product.setLevel(logging.INFO)
    product.addHandler(handler)
    yield handler
    product.removeHandler(handler)
    product.setLevel(level)


@pytest.mark.parametrize("path", ["/test/x/said", "/test/x/threaded"])
def test_a_callers_id_is_in_the_log_and_in_the_answer(client: TestClient, kept: _Kept, path: str) -> None:
    answer = client.get(path, headers={"X-Request-Id": "Caller-0001"})
    assert answer.headers["X-Request-Id"] == "Caller-0001"
    assert answer.json() == {"id": "Caller-0001"}
    assert [line.request_id for line in kept.of("pipeline.test")] == ["Caller-0001"]
    assert request_id.current.get() is None


@pytest.mark.parametrize("given", [None, "short", "a" * 65, "with space", 'quo"te-123'])
def test_a_request_without_a_good_id_gets_a_new_one(client: TestClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    ids = [client.get("/test/x/said", headers=headers).headers["X-Request-Id"] for _ in range(2)]
    assert len({*ids, given}) == 3
    assert all(request_id.is_request_id(each) for each in ids)


def test_a_failed_request_is_one_line_by_its_route_and_its_id_is_in_the_envelope(
    client: TestClient, kept: _Kept
) -> None:
    answer = client.get("/test/secret-thing/away?token=hush", headers={"X-Request-Id": "Caller-0002"})
    assert (answer.status_code, answer.json()["error"]["request_id"]) == (503, "Caller-0002")
    [line] = kept.of(edge.log.name)
    ms = line.fields.pop("ms")
    assert line.getMessage() == f"GET /test/{{thing}}/away: 503 after {ms} ms"
    assert line.fields == {"method": "GET", "route": "/test/{thing}/away", "status": 503}
    assert (line.levelname, line.request_id) == ("WARNING", "Caller-0002")
    assert {each.request_id for each in kept.lines} == {"Caller-0002"}


def test_a_slow_request_is_one_line_and_one_that_went_well_or_was_refused_is_none(
    client: TestClient, kept: _Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, status in (("/test/x/said", 200), ("/me/usage", 401), ("/nothing", 404)):
        assert client.get(path).status_code == status
    assert kept.of(edge.log.name) == []
    monkeypatch.setattr(edge, "SLOW_MS", 0)
    assert client.get("/test/x/said").status_code == 200
    [line] = kept.of(edge.log.name)
    assert (line.levelname, line.fields["status"]) == ("INFO", 200)
    assert isinstance(line.fields["ms"], int)


def test_that_a_server_is_not_ready_yet_is_an_answer_and_no_failed_request(
    client: TestClient, kept: _Kept
) -> None:
    """Whoever starts it asks again and again."""
    assert client.get("/healthz").status_code == 503
    assert kept.of(edge.log.name) == []

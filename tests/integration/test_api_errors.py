"""Failures of the API: one envelope, nothing leaked, answers in time, and each request counted."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
import time
from collections.abc import Iterator
from typing import Annotated, Any, cast

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from pipeline.api.http.errors import ApiError
from pipeline.api.http.limiter import RequestRate
from pipeline.api.routes.health import engine_check
from pipeline.api.server.app import create_app
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.logs import OfRequest
from pipeline.outcomes import RefusalCode
from pipeline.telemetry import API
from tests.support.api.client import Api, api

extra = APIRouter()


class Body(BaseModel):
    """What the route below takes."""

    amount_inr: Annotated[int, Field(ge=100)]


@extra.get("/test/broken")
async def broken() -> None:
    """Fail with what nobody may see."""
    raise RuntimeError("the password is hunter2")


@extra.get("/test/refused")
async def refused() -> None:
    """Refuse with more than the usual fields."""
    raise ApiError(
        RefusalCode.BUDGET_EXCEEDED,
        "the budget is spent",
        more={"limit_inr": 5, "resets_at": "soon"},
        headers={"Retry-After": "7"},
    )


@extra.post("/test/posted/{thing}")
async def posted(thing: int, body: Body) -> None:
    """Take a body."""


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    with api(engine) as running:
        cast(FastAPI, running.client.app).include_router(extra)
        yield running


def envelope(response: Any) -> dict[str, Any]:
    """Return the error of a response, having checked its shape and headers."""
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "code", "request_id"} <= error.keys()
    assert error["request_id"] == response.headers["X-Request-Id"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert response.headers["Cache-Control"] == "no-store"
    return error


def test_unknown_paths_and_methods(served: Api) -> None:
    for path in ("/nothing", "/me", "/me/usage/", "/me/usage/..", "/v1", "/%00", "//me/usage"):
        response = served.client.get(path)
        assert (response.status_code, envelope(response)["code"]) == (404, "not_found"), path
    response = served.client.post("/me/usage")
    assert (response.status_code, envelope(response)["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "GET"


def test_a_body_that_does_not_fit(served: Api) -> None:
    for content, param in (
        (b"{", "body"),
        (b"", "body"),
        (b"{}", "amount_inr"),
        (b'{"amount_inr": 99}', "amount_inr"),
        (b"[]", "body"),
    ):
        response = served.client.post(
            "/test/posted/1", content=content, headers={"Content-Type": "application/json"}
        )
        error = envelope(response)
        assert (response.status_code, error["code"], error["param"]) == (400, "invalid_request", param), (
            content
        )
    assert envelope(served.client.post("/test/posted/x", json={"amount_inr": 100}))["param"] == "thing"


def test_a_refusal_may_say_more(served: Api) -> None:
    response = served.client.get("/test/refused")
    error = envelope(response)
    assert (response.status_code, error["type"], error["limit_inr"]) == (429, "rate_limit_error", 5)
    assert response.headers["Retry-After"] == "7"


def test_our_own_mistakes_show_nothing(served: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(OfRequest())
    response = served.client.get("/test/broken", headers={"X-Request-Id": "request-77"})
    error = envelope(response)
    assert (response.status_code, error["code"]) == (500, "internal")
    assert "hunter2" not in response.text
    [line] = [each for each in caplog.records if each.exc_info]
    assert "hunter2" in caplog.text and getattr(line, "request_id", None) == "request-77"


def test_a_request_id_is_taken_over_only_if_it_is_one(served: Api) -> None:
    for given in ("x", "a b c d e f g h", "é" * 10, "a" * 65, "line\\nfeed"):
        response = served.client.get("/nothing", headers={b"X-Request-Id": given.encode()})
        assert re.fullmatch("[0-9a-f]{32}", envelope(response)["request_id"])


@pytest.mark.parametrize("path", ["/me/usage", "/me/usage/daily", "/me/activity", "/me/activity/events"])
def test_without_a_session_nothing_else_is_looked_at(served: Api, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic x"},
        {"Cookie": "br_session=x"},
    ):
        response = served.client.get(path + "?limit=0&nonsense=1", headers=headers)
        assert (response.status_code, envelope(response)["code"]) == (401, "no_session")
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_session_comes_by_header_or_cookie_and_the_header_counts(served: Api) -> None:
    good = served.token("org_a")
    for headers, status in (
        ({"Authorization": f"Bearer {good}"}, 200),
        ({"Authorization": f"bearer {good}"}, 200),
        ({"Cookie": f"br_session={good}"}, 200),
        ({"Cookie": f"br_session={good}", "Authorization": "Bearer x"}, 401),
        ({"Cookie": f"other={good}"}, 401),
    ):
        assert served.client.get("/me/usage", headers=headers).status_code == status, headers
    assert served.client.get(f"/me/usage?token={good}").status_code == 401


def test_a_session_ends(served: Api) -> None:
    headers = {"Authorization": f"Bearer {served.token('org_a')}"}
    assert served.client.get("/me/usage", headers=headers).status_code == 200
    served.clock[0] += 13 * 3600 * 1000
    assert served.client.get("/me/usage", headers=headers).status_code == 401


@pytest.fixture
def no_engine() -> Iterator[Engine]:
    """An engine on a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        engine = open_engine(f"http://127.0.0.1:{server.getsockname()[1]}/db")
        yield engine
    engine.close()


def test_an_engine_that_hangs_is_503_within_10_seconds(no_engine: Engine) -> None:
    with api(no_engine, checks={"clickhouse": engine_check(no_engine)}) as served:
        started = time.monotonic()
        response = served.client.get(
            "/me/activity", headers={"Authorization": f"Bearer {served.token('org_a')}"}
        )
        assert time.monotonic() - started < 10
        assert (response.status_code, envelope(response)["code"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        started = time.monotonic()
        assert served.ask("/healthz") == (503, {"clickhouse": "does not answer in time"})
        assert time.monotonic() - started < 5
        assert served.ask("/v1/catalog")[0] == 200


def test_health_names_each_part(engine: Engine) -> None:
    problem: list[str | None] = [None]

    async def worker() -> str | None:
        return problem[0]

    async def stuck() -> str | None:
        await asyncio.Event().wait()
        return None

    async def faulty() -> str | None:
        raise RuntimeError("hunter2")

    with api(engine, checks={"clickhouse": engine_check(engine), "worker": worker}) as served:
        assert served.ask("/healthz") == (200, {"clickhouse": "ok", "worker": "ok"})
        problem[0] = "3 partitions have no owner"
        assert served.ask("/healthz")[0] == 200, "the parts are asked once a second, whoever asks"
        served.clock[0] += 1000
        assert served.ask("/healthz") == (503, {"clickhouse": "ok", "worker": "3 partitions have no owner"})
    with api(engine, checks={"a": stuck, "b": faulty}) as served:
        assert served.ask("/healthz") == (503, {"a": "does not answer in time", "b": "its check failed"})


def test_health_without_a_schema(empty_engine: Engine) -> None:
    with api(empty_engine, checks={"clickhouse": engine_check(empty_engine)}) as served:
        assert served.ask("/healthz") == (503, {"clickhouse": "does not answer, or has no schema"})


def test_requests_are_counted_by_template(served: Api) -> None:
    def count(route: str, code: str, method: str = "GET") -> float:
        labels = {"route": route, "method": method, "code": code}
        return API.registry.get_sample_value("metering_http_requests_total", labels) or 0

    before = (
        count("/test/posted/{thing}", "400", "POST"),
        count("unmatched", "404"),
        count("/test/broken", "500"),
    )
    served.client.post("/test/posted/17", json={})
    served.client.get("/wp-login.php")
    served.client.get("/test/broken")
    after = (
        count("/test/posted/{thing}", "400", "POST"),
        count("unmatched", "404"),
        count("/test/broken", "500"),
    )
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    text = served.client.get("/metrics")
    assert text.headers["Content-Type"].startswith("text/plain")
    assert 'metering_http_request_seconds_count{route="/test/broken"}' in text.text
    assert "org_a" not in text.text and "/test/posted/17" not in text.text


def test_an_address_and_a_session_may_ask_so_often(engine: Engine) -> None:
    with api(engine) as served:
        address_requests, session_requests = RequestRate(per_s=1, burst=12), RequestRate(per_s=1, burst=4)
        context = dataclasses.replace(
            served.context, address_requests=address_requests, session_requests=session_requests
        )
        client = TestClient(create_app(context))
        mine, theirs = ({"Authorization": f"Bearer {served.token(org)}"} for org in ("org_a", "org_b"))
        asked = [client.get("/me/usage", headers=mine) for _ in range(6)]
        assert [answer.status_code for answer in asked] == [200] * 4 + [429] * 2
        assert envelope(asked[4])["code"] == "rate_limit_exceeded" and asked[4].headers["Retry-After"] == "1"
        assert [client.get("/me/usage", headers=theirs).status_code for _ in range(3)] == [200] * 3
        assert [client.get("/v1/catalog").status_code for _ in range(4)] == [200] * 3 + [429]
        served.clock[0] += 1000
        assert client.get("/me/usage", headers=mine).status_code == 200


def test_browsers_are_told_to_come_by_https_only_where_they_can(engine: Engine) -> None:
    with api(engine) as served:
        assert "Strict-Transport-Security" not in served.client.get("/v1/catalog").headers
        context = dataclasses.replace(served.context, public_url="https://billing.example.in")
        for path in ("/v1/catalog", "/nothing", "/login"):
            answer = TestClient(create_app(context)).get(path)
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_strangers_learn_whether_it_is_ready_and_nothing_else(engine: Engine) -> None:
    asked = []

    async def worker() -> str | None:
        asked.append(1)
        return "3 partitions have no owner" if len(asked) > 1 else None

    with api(engine, checks={"worker": worker}) as served:
        app = served.client.app
        stranger, proxied = (
            TestClient(app, client=("8.8.8.8", 1)),
            TestClient(app, client=("127.0.0.1", 1), headers={"X-Forwarded-For": "127.0.0.1"}),
        )
        for client in (stranger, proxied, stranger):
            answer = client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"server": "ok"})
            assert (client.get("/metrics").status_code, client.get("/metrics").json()["error"]["code"]) == (
                404,
                "not_found",
            )
        assert len(asked) == 1
        served.clock[0] += 1000
        assert (stranger.get("/healthz").status_code, stranger.get("/healthz").json()) == (
            503,
            {"server": "not ready"},
        )
        assert served.ask("/healthz") == (503, {"worker": "3 partitions have no owner"})


def test_the_metrics_are_made_once_a_second(served: Api) -> None:
    first = served.client.get("/metrics").text
    assert served.client.get("/metrics").text == first
    served.clock[0] += 1000
    assert served.client.get("/metrics").text != first

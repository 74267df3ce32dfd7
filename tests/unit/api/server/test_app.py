"""The app itself: what it makes once and not for each who asks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from pipeline.api.server import app as module
from pipeline.api.server.app import create_app
from pipeline.api.services.context import AppContext
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine


def _client() -> TestClient:
    context = AppContext(
        database=cast(Engine, None),  # nothing here reads from it
        key_names={},
        rates=RateTable(),
        session_secret="s" * 32,
        now_ms=lambda: 0,
    )
    return TestClient(create_app(context))


def test_amounts_that_may_be_absent_may_be_null_by_the_document() -> None:
    schemas = _client().get("/openapi.json").json()["components"]["schemas"]
    for name, amount in (
        ("BillingAnswer", "threshold_inr"),
        ("ThresholdAnswer", "threshold_inr"),
        ("KeyShown", "budget_inr"),
        ("KeyMade", "budget_inr"),
        ("KeyForecast", "budget_inr"),
        ("SpendShown", "likely"),
    ):
        assert {"type": "null"} in schemas[name]["properties"][amount]["anyOf"], name


def test_the_document_is_made_once_and_keeps_nobody_waiting_for_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def slow(document: dict[str, Any]) -> dict[str, Any]:
        made.append(document)
        time.sleep(1)
        return document

    monkeypatch.setattr(module, "_without_422", slow)
    with _client() as client, ThreadPoolExecutor(8) as asking:
        answers = [asking.submit(client.get, "/openapi.json") for _ in range(4)]
        while not made:
            time.sleep(0.01)
        assert client.get("/login").status_code == 200
        assert not any(answer.done() for answer in answers)
        assert {answer.result().json()["openapi"][:2] for answer in answers} == {"3."}
        assert len(made) == 1

"""JSON bodies are read exactly or not at all: the reader, and every route that takes one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from pipeline.api.http.bodies import read_json
from pipeline.api.http.errors import BadBodyError
from pipeline.api.routes.addresses import ThresholdBody
from pipeline.api.routes.keys import NewKey
from pipeline.api.routes.orders import OrderBody
from pipeline.api.server.app import create_app
from pipeline.api.services.context import AppContext
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine
from tests.support.builders import NOW_MS


def test_amounts_keep_their_digits() -> None:
    assert read_json(b'{"a": 123456789.123456789, "b": [1e2, 7, "x", null, true]}') == {
        "a": Decimal("123456789.123456789"),
        "b": [Decimal(100), 7, "x", None, True],
    }
    body = read_json(b'{"name": "n", "budget_inr": 123456789.123456789}')
    assert NewKey.model_validate(body).budget_inr == Decimal("123456789.123456789")


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "c"),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b'{"a": NaN}', "body"),
        (b"[-Infinity]", "body"),
        (b"1" * 101, "body"),
        (b"1e99999999999999999999", "body"),
        (b"[" * 100_000, "body"),
        (b'{"a": "\xff\xfe\xfd"}', "body"),
    ],
)
def test_what_could_be_read_two_ways_or_costs_too_much_is_refused(text: bytes, param: str) -> None:
    with pytest.raises(BadBodyError) as refusal:
        read_json(text)
    assert refusal.value.param == param


def test_what_is_no_json_is_said_so() -> None:
    for text in (b"", b"{", b"[1,]", b"\x00"):
        with pytest.raises(json.JSONDecodeError):
            read_json(text)


@pytest.mark.parametrize("amount", ["1_00", "١٢", " 1", "1e2", "0x10", "", True])
def test_a_number_in_text_is_of_plain_digits(amount: object) -> None:
    for model, field in (
        (OrderBody, "amount_inr"),
        (ThresholdBody, "threshold_inr"),
        (NewKey, "budget_inr"),
        (NewKey, "daily_limit"),
    ):
        with pytest.raises(ValueError, match="must be a number"):
            model.model_validate({"name": "n", field: amount})


def test_every_route_that_takes_json_refuses_a_key_that_is_given_twice() -> None:
    context = AppContext(
        database=cast(Engine, None),
        key_names={},
        rates=RateTable(),
        session_secret="x" * 32,
        now_ms=lambda: NOW_MS,
    )
    client = TestClient(create_app(context))
    paths: dict[str, Any] = client.get("/openapi.json").json()["paths"]
    tried = [
        (method, path)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "requestBody" in operation
    ]
    assert len(tried) >= 6
    for method, path in tried:
        answer = client.request(
            method, path, content=b'{"x": 1, "x": 2}', headers={"Content-Type": "application/json"}
        )
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["message"]) == (400, "x", "x is given twice"), path
        # Half of a surrogate pair is no text that an answer could name.
        half = rb'{"\ud800": 1, "\ud800": 2}'
        answer = client.request(method, path, content=half, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "?"), path

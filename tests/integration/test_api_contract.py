"""Every route of the OpenAPI document: real answers fit it, and none holds another org's data.

A new route fails here until tests/support/api/routes.py classifies it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.api.routes.health import engine_check
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from tests.support.api.client import Api, api
from tests.support.api.routes import (
    ASKS_OWNER,
    BY_ID,
    FILES_OF_AN_ORG,
    NAMES_NOBODY,
    OF_AN_ORG,
    OPERATORS,
    PAGES,
    PUBLIC,
    SEARCHES,
    SIGNED_BY_RAZORPAY,
    TEXT,
    WITHOUT_OWNER,
    paths_of,
)
from tests.support.builders import COST_NANO, NOW_MS, rate, rate_table
from tests.support.journal_rows import insert, request

EXPLAINED = 500
"""The position of a request whose rate the catalog has."""


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    """The app with two orgs, each with its own word in everything that could show."""
    rows = [
        request(
            id=public_id(partition, n),
            org=org,
            at_ms=NOW_MS - n * 3_600_000,
            source=f"{org}_source",
            event_id=f"{org}_event_{n}",
            key_id=f"{org}_key" if n % 4 else "shared_key",
            model=f"{org}_model",
            provider="" if n % 7 == 0 else f"{org}_provider",
            status=500 if n % 7 == 0 else 200,
            cost_nano=0 if n % 7 == 0 else COST_NANO,
        )
        for partition, org in enumerate(("mine", "theirs"))
        for n in range(120)
    ]
    # The public catalog has no model of theirs, so the requests that it explains are of another one.
    rows += [
        request(
            id=public_id(partition, EXPLAINED),
            org=org,
            at_ms=NOW_MS,
            source=f"{org}_source",
            key_id=f"{org}_key",
            model="catalog-model",
            cost_nano=COST_NANO,
        )
        for partition, org in enumerate(("mine", "theirs"))
    ]
    insert(engine, rows)
    names = {f"{org}_key": (org, f"{org}_name") for org in ("mine", "theirs")}
    names["shared_key"] = ("theirs", "theirs_shared_name")
    rates = rate_table(rate(model="catalog-model"))
    with api(engine, key_names=names, rates=rates, checks={"clickhouse": engine_check(engine)}) as running:
        yield running


def document(served: Api) -> dict[str, Any]:
    found: dict[str, Any] = served.client.get("/openapi.json").json()
    return found


def test_every_route_is_classified(served: Api) -> None:
    described = (
        OF_AN_ORG.keys()
        | FILES_OF_AN_ORG.keys()
        | BY_ID
        | SEARCHES.keys()
        | PUBLIC
        | TEXT
        | ASKS_OWNER.keys()
        | WITHOUT_OWNER.keys()
        | SIGNED_BY_RAZORPAY
    )
    assert set(document(served)["paths"]) == described
    assert paths_of(served.client.app) == described | PAGES | OPERATORS | {"/openapi.json"}


def test_no_answer_holds_another_orgs_data(served: Api) -> None:
    for me, other in (("mine", "theirs"), ("theirs", "mine")):
        headers = {"Authorization": f"Bearer {served.token(me)}"}
        for path, tried in (OF_AN_ORG | FILES_OF_AN_ORG).items():
            assert path in NAMES_NOBODY or me in served.client.get(path, headers=headers).text
            for query in tried:
                asked = path + query.replace("theirs", other)
                response = served.client.get(asked, headers=headers)
                assert response.status_code == 200
                assert other not in response.text, asked
    for me, other, partition in (("mine", "theirs", 0), ("theirs", "mine", 1)):
        headers = {"Authorization": f"Bearer {served.token(me)}"}
        for path in BY_ID:
            own = path.replace("{id}", str(public_id(partition, EXPLAINED)))
            assert me in served.client.get(own, headers=headers).text
            others = path.replace("{id}", str(public_id(1 - partition, EXPLAINED)))
            assert served.refused(others, me) == (404, "not_found", None)
        for path, asked in SEARCHES.items():
            for own_id in (public_id(partition, EXPLAINED), f"{me}_event_1"):
                assert me in served.client.get(f"{path}{asked}{own_id}", headers=headers).text
            for others_id in (public_id(1 - partition, EXPLAINED), f"{other}_event_1"):
                found = served.client.get(f"{path}{asked}{others_id}", headers=headers)
                assert found.status_code == 200 and other not in found.text
    for path in PUBLIC | TEXT:
        text = served.client.get(path).text
        assert "mine" not in text and "theirs" not in text, path


def test_every_route_of_an_org_refuses_without_a_session(served: Api) -> None:
    searches = [f"{path}{asked}0" for path, asked in SEARCHES.items()]
    for path in (*OF_AN_ORG, *FILES_OF_AN_ORG, *(path.replace("{id}", "0") for path in BY_ID), *searches):
        assert served.refused(path) == (401, "no_session", None)
    for tries in (*ASKS_OWNER.values(), *WITHOUT_OWNER.values()):
        for method, path, body in tries:
            answer = served.client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_session"), path


def token_of(served: Api, org: str, name: str = "reader") -> dict[str, str]:
    """Return the headers of a program with an access token of an org."""
    headers = {"Authorization": f"Bearer {served.token(org)}"}
    made = served.client.post("/me/tokens", json={"name": name, "scope": "read"}, headers=headers)
    assert made.status_code == 200, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


def test_an_access_token_reads_what_a_session_of_its_org_reads(served: Api) -> None:
    reader, session = token_of(served, "mine"), {"Authorization": f"Bearer {served.token('mine')}"}
    paths = [*OF_AN_ORG, *FILES_OF_AN_ORG]
    paths += [path.replace("{id}", str(public_id(of, EXPLAINED))) for path in BY_ID for of in (0, 1)]
    paths += [
        path for tries in (ASKS_OWNER | WITHOUT_OWNER).values() for verb, path, _ in tries if verb == "GET"
    ]
    for path in paths:
        by_token = served.client.get(path, headers=reader)
        by_session = served.client.get(path, headers=session)
        without_id = [
            answer.text.replace(answer.headers["x-request-id"], "") for answer in (by_token, by_session)
        ]
        assert by_token.status_code == by_session.status_code and without_id[0] == without_id[1], path
    assert served.client.get("/me/usage", headers=token_of(served, "theirs")).text != by_session.text


def test_an_app_without_the_accounts_services_answers_that_they_are_not_available(served: Api) -> None:
    headers = {"Authorization": f"Bearer {served.token('mine')}"}
    for path in ASKS_OWNER.keys() - {"/me/billing/pin/{pin}"}:
        for method, asked, body in ASKS_OWNER[path]:
            answer = served.client.request(method, asked, json=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), path
    assert served.client.post("/webhooks/razorpay").status_code == 503
    for path in OPERATORS:
        assert served.client.post(path).status_code == 404


def test_real_answers_fit_the_document(served: Api) -> None:
    described = document(served)
    headers = {"Authorization": f"Bearer {served.token('mine')}"}
    asked = [path + tried for path, queries in OF_AN_ORG.items() for tried in queries]
    asked += [f"{path}{query}mine_event_{n}" for path, query in SEARCHES.items() for n in (1, 1_000)]
    for path in (*asked, *PUBLIC, "/me/activity?from=2000-01-01&to=2000-01-01"):
        check(described, path, served.client.get(path, headers=headers))
    for path in BY_ID:
        for position, status in ((EXPLAINED, 200), (7, 200), (EXPLAINED + 1, 404)):
            asked_for = path.replace("{id}", str(public_id(0, position)))
            response = served.client.get(asked_for, headers=headers)
            assert response.status_code == status
            check(described, path, response)
    for path, given in (
        ("/me/usage", {}),
        ("/me/activity/events?limit=0", headers),
        ("/v1/rankings?a=b", {}),
    ):
        response = served.client.get(path, headers=given)
        assert response.status_code in (400, 401)
        check(described, path, response)


def check(described: dict[str, Any], path: str, response: Any) -> None:
    """Hold an answer against the document: its status, and its body's schema, names and all."""
    responses = described["paths"][path.partition("?")[0]]["get"]["responses"]
    assert "422" not in responses
    schema = responses[str(response.status_code)]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": described["components"]})
    assert [error.message for error in validator.iter_errors(json.loads(response.text))] == [], path


def test_the_document_would_notice(served: Api) -> None:
    described = document(served)
    schema = described["paths"]["/me/usage"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    validator = Draft202012Validator({**schema, "components": described["components"]})
    answer = served.client.get(
        "/me/usage", headers={"Authorization": f"Bearer {served.token('mine')}"}
    ).json()
    assert validator.is_valid(answer)
    assert not validator.is_valid({**answer, "more": 1})
    assert not validator.is_valid({**answer, "keys": [{**answer["keys"][0], "today": None}]})


def test_the_documented_parameters_are_those_that_are_taken(served: Api) -> None:
    headers = {"Authorization": f"Bearer {served.token('mine')}"}
    for path, operations in document(served)["paths"].items():
        if path not in OF_AN_ORG.keys() | FILES_OF_AN_ORG.keys() | SEARCHES.keys() | PUBLIC - {"/healthz"}:
            continue
        named = [p["name"] for p in operations["get"].get("parameters", []) if p["in"] == "query"]
        error = served.client.get(f"{path}?no_such=1", headers=headers).json()["error"]
        assert (error["code"], error["param"]) == ("invalid_request", "no_such")
        assert error["message"].endswith(f"known: {', '.join(named) or 'none'}")


def test_limits_are_in_the_document(served: Api) -> None:
    parameters = document(served)["paths"]["/me/activity/events"]["get"]["parameters"]
    limit = next(p["schema"] for p in parameters if p["name"] == "limit")
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 200, 50)

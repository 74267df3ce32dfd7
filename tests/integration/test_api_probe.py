"""Every route of the app, with every verb, for every kind of session: who is answered, and who is refused and how.

Routes and verbs are the app's own, so a new one is among them: it fails here until tests/support/api/routes.py says
who may ask for it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, cast

import jwt
import pytest
from fastapi import APIRouter, FastAPI
from httpx2 import Response
from starlette.routing import compile_path

from pipeline.api.http.sessions import ROLES, Role, issue
from pipeline.clickhouse.client import Engine
from pipeline.ist import DAY_MS
from pipeline.token_book import token_text
from tests.support.api.client import SECRET, Api, api
from tests.support.api.routes import (
    CHANGED_BY,
    PAGES,
    Access,
    expected,
    paths_of,
    unclassified,
    verbs_of,
)
from tests.support.builders import NOW_MS

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
HOUR_S = 3600
Headers = dict[str, str]


@pytest.fixture
def served(engine: Engine) -> Iterator[Api]:
    with api(engine) as running:
        yield running


def bad_tokens() -> dict[str, str]:
    """Return tokens that open nothing, by what is wrong with them."""
    good = issue(SECRET, "mine", "owner", "x@mine.example", NOW_MS)
    claims: dict[str, Any] = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    long = {**claims, "exp": claims["iat"] + 48 * HOUR_S}
    return {
        "none": "",
        "nonsense": "nonsense",
        "another secret": issue(SECRET[::-1], "mine", "owner", "x@mine.example", NOW_MS),
        "a changed signature": f"{head}.{body}.{signature[:-2]}AA",
        "no signature": f"{head}.{body}.",
        "alg none": f"{unsigned}.{body}.",
        "another algorithm": jwt.encode(claims, SECRET * 2, algorithm="HS512"),
        "expired": issue(SECRET, "mine", "owner", "x@mine.example", NOW_MS - 13 * HOUR_S * 1000),
        "too long": jwt.encode(long, SECRET, algorithm="HS256"),
        "no org": jwt.encode({**claims, "org": ""}, SECRET, algorithm="HS256"),
        "no role of ours": jwt.encode({**claims, "role": "root"}, SECRET, algorithm="HS256"),
    }


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"} if token else {}


def cookie(token: str, site: str = "same-origin") -> Headers:
    return {"Sec-Fetch-Site": site, **({"Cookie": f"br_session={token}"} if token else {})}


def filled(path: str) -> str:
    """Return a path with something in place of its parameters."""
    return "/".join("1" if part.startswith("{") else part for part in path.split("/"))


def of(access: Access) -> list[tuple[str, str]]:
    return sorted(place for place, who in expected().items() if who is access)


async def _new() -> None:
    """Answer a route that nobody has classified."""


def test_each_verb_of_each_route_is_classified_and_a_new_one_is_noticed(served: Api) -> None:
    app = cast(FastAPI, served.client.app)
    assert unclassified(app) == set(), "say in tests/support/api/routes.py who may ask for these"
    assert expected().keys() - verbs_of(app) == set(), "tests/support/api/routes.py lists what is no route"
    changing = {place for place in of(Access.MEMBERS) if place[0] != "GET"}
    assert changing == CHANGED_BY.keys(), "say in CHANGED_BY of tests/support/api/routes.py which roles may"
    added = APIRouter()
    added.delete("/me/keys/{key_id}")(_new)
    added.get("/me/secrets")(_new)
    noticed = FastAPI(routes=[*app.routes, *added.routes])
    assert unclassified(noticed) >= {("DELETE", "/me/keys/{key_id}"), ("GET", "/me/secrets")}


def test_a_verb_that_a_route_has_not_is_405_for_all(served: Api) -> None:
    answered = verbs_of(served.client.app)
    for path in sorted(paths_of(served.client.app)):
        # `/me/keys/use` is also what `/me/keys/{key_id}` takes.
        known = {verb for verb, each in answered if compile_path(each)[0].match(filled(path))}
        for verb in sorted(set(VERBS) - known):
            for headers in ({}, bearer(served.token("mine"))):
                answer = served.client.request(verb, filled(path), headers=headers)
                assert answer.status_code == 405, (verb, path)
                assert set(answer.headers["allow"].split(", ")) == known, (verb, path)
                assert verb == "HEAD" or answer.json()["error"]["code"] == "method_not_allowed"


def test_what_is_no_session_opens_nothing_of_an_org(served: Api) -> None:
    for verb, path in of(Access.MEMBERS):
        for what, token in bad_tokens().items():
            # Pages look at the cookie alone.
            for headers in (cookie(token), *([] if path in PAGES else [bearer(token)])):
                answer = served.client.request(verb, filled(path), json={}, headers=headers)
                assert answer.status_code == 401, (verb, path, what)
                if path in PAGES:
                    assert "<h1" in answer.text and "mine" not in answer.text
                else:
                    assert answer.json()["error"]["code"] == "no_session", (verb, path, what)
                    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_role_that_may_not_change_something_is_403(served: Api) -> None:
    for (verb, path), roles in CHANGED_BY.items():
        for role in ROLES:
            for headers in (bearer(served.token("mine", role)), cookie(served.token("mine", role))):
                answer = served.client.request(verb, filled(path), json={}, headers=headers)
                assert (answer.status_code == 403) == (role not in roles), (verb, path, role, answer.text)
                # Who may gets on to the body, or to the accounts' owners, which this app has none of.
                assert answer.status_code in (200, 400, 403, 404, 503), (verb, path, role)


def test_a_page_of_another_site_changes_nothing_by_a_members_cookie(served: Api) -> None:
    changing: list[tuple[str, str]] = [*CHANGED_BY, ("POST", "/login"), ("POST", "/logout")]
    token = served.token("mine")
    others = (
        cookie(token, "cross-site"),
        cookie(token, "same-site"),
        {"Origin": "https://evil.example", "Cookie": f"br_session={token}"},
    )
    for verb, path in changing:
        for headers in others:
            answer = served.client.request(verb, filled(path), json={}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), (verb, path)


def access_token(served: Api, name: str = "reader") -> tuple[str, str]:
    """Return the id and the text of a new access token."""
    made = served.client.post("/me/tokens", json={"name": name}, headers=bearer(served.token("mine")))
    return made.json()["id"], made.json()["token"]


def test_an_access_token_opens_what_reads_of_its_org_and_nothing_else(served: Api) -> None:
    _, token = access_token(served)

    def asked(verb: str, path: str, headers: Headers) -> Response:
        body: dict[str, str] | None = None if verb == "GET" else {}
        return served.client.request(verb, filled(path), json=body, headers=headers, follow_redirects=False)

    for (verb, path), who in sorted(expected().items()):
        by_token = asked(verb, path, bearer(token))
        if who is not Access.MEMBERS or path in PAGES:
            assert by_token.status_code == asked(verb, path, {}).status_code, (verb, path)
        elif verb == "GET":
            by_session = asked(verb, path, bearer(served.token("mine", "member")))
            assert by_token.status_code == by_session.status_code != 401, (verb, path)
        else:
            assert (by_token.status_code, by_token.json()["error"]["code"]) == (403, "forbidden"), (
                verb,
                path,
            )
        if who is Access.MEMBERS:
            assert asked(verb, path, cookie(token)).status_code == 401, (verb, path)
    for refused in (
        served.client.get("/login", params={"token": token}),
        served.client.post("/login", data={"token": token}),
    ):
        assert refused.status_code == 401 and "set-cookie" not in refused.headers
    listed = served.client.get("/me/tokens", headers=bearer(token)).json()["tokens"]
    assert [(each["name"], each["revoked"]) for each in listed] == [("reader", False)]


def test_what_is_no_access_token_or_is_over_opens_nothing_of_an_org(served: Api) -> None:
    token_id, revoked = access_token(served)
    session = bearer(served.token("mine"))
    assert served.client.delete(f"/me/tokens/{token_id}", headers=session).status_code == 200
    _, expired = access_token(served, "expired")
    bad = [
        "brt-",
        token_text(b"guessed " * 3),
        expired[:-1],
        expired.upper().replace("BRT-", "brt-"),
        revoked,
        expired,
    ]
    served.clock[0] += 90 * DAY_MS
    for verb, path in of(Access.MEMBERS):
        if path in PAGES:
            continue
        for token in bad:
            answer = served.client.request(verb, filled(path), json={}, headers=bearer(token))
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token"), (
                verb,
                path,
            )
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_operators_routes_are_not_there_for_members(served: Api) -> None:
    roles: tuple[Role, ...] = ROLES
    tried = [{}, *(bearer(served.token("mine", role)) for role in roles), {"X-Operator-Token": "guessed"}]
    for verb, path in of(Access.OPERATORS):
        for headers in tried:
            answer = served.client.request(verb, filled(path), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path


def test_what_is_for_anybody_is_the_same_for_all(served: Api) -> None:
    tokens = [*bad_tokens().values(), served.token("mine"), served.token("theirs", "member")]
    for verb, path in of(Access.ANYBODY):
        if path in PAGES:
            continue
        first = served.client.request(verb, filled(path))
        for token in tokens:
            answer = served.client.request(verb, filled(path), headers=bearer(token))
            assert answer.status_code == first.status_code == 200, (verb, path)
            if path != "/metrics":
                assert answer.text == first.text, path

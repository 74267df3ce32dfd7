"""`/me/tokens` over HTTP: who may make and revoke a token, what is taken, and what a token that is over is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from pipeline.api.http.answers import moment
from pipeline.api.http.sessions import Role, issue
from pipeline.api.server.app import create_app
from pipeline.api.services.context import AppContext, rate_of
from pipeline.api.services.tokens import TokenRegister
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine
from pipeline.ist import DAY_MS
from pipeline.kafka.commands import UnavailableError
from pipeline.token_book import TokenBook, TokenRecord

SECRET = "a secret of the tests, long enough to sign with"
NOW_MS = 1_781_288_999_123


class Asking:
    """The app, and who asks it."""

    def __init__(self, tokens: TokenRegister | None = None, requests_per_s: int = 100) -> None:
        self.clock = [NOW_MS]
        context = AppContext(
            database=cast(Engine, None),  # nothing here reads from it
            key_names={},
            rates=RateTable(),
            session_secret=SECRET,
            now_ms=lambda: self.clock[0],
            known_tokens=tokens,
            session_requests=rate_of(requests_per_s),
        )
        self.client = TestClient(create_app(context))

    def ask(
        self, method: str, path: str, role: Role = "owner", body: Any = None, key: str | None = None
    ) -> Response:
        """Ask as a member of an org."""
        bearer = f"Bearer {issue(SECRET, 'org_acme', role, 'asha@acme.example', self.clock[0])}"
        headers = {"Authorization": bearer, **({"Idempotency-Key": key} if key else {})}
        return self.client.request(method, path, json=body, headers=headers)

    def made(self, **body: Any) -> dict[str, Any]:
        """Make a token as an owner."""
        answer = self.ask("POST", "/me/tokens", body={"name": "books", **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def with_token(self, token: str, path: str = "/me/tokens") -> Response:
        """Read as a program with an access token."""
        return self.client.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def asking() -> Iterator[Asking]:
    """The app of an org without tokens."""
    found = Asking()
    with found.client:
        yield found


def test_a_token_is_shown_once_and_listed_without_it(asking: Asking) -> None:
    made = asking.made(name="  books ", scope="read", expires_days=7)
    token = made.pop("token")
    assert token.startswith("brt-") and made["prefix"] == token[:12]
    assert made | {"id": ""} == {
        "id": "",
        "name": "books",
        "scope": "read",
        "prefix": token[:12],
        "created_at": moment(NOW_MS),
        "expires_at": moment(NOW_MS + 7 * DAY_MS),
        "revoked": False,
    }
    listed = asking.ask("GET", "/me/tokens", "member")
    assert listed.json() == {"tokens": [made]} and token not in listed.text
    assert listed.headers["cache-control"] == "private, no-store"
    # Its own list too is a GET of its org.
    assert asking.with_token(token).json() == listed.json()


@pytest.mark.parametrize(
    ("given", "days"), [({}, 90), ({"expires_days": None}, 90), ({"expires_days": 365}, 365)]
)
def test_a_token_always_expires(asking: Asking, given: dict[str, Any], days: int) -> None:
    token = asking.made(**given)["token"]
    asking.clock[0] += days * DAY_MS - 1
    assert asking.with_token(token).status_code == 200
    asking.clock[0] += 1
    told = asking.with_token(token)
    assert (told.status_code, told.json()["error"]["code"]) == (401, "invalid_token")
    assert told.json()["error"]["type"] == "authentication_error"
    assert told.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_revoked_token_is_refused_and_revoking_it_again_changes_nothing(asking: Asking) -> None:
    made = asking.made()
    for _ in range(2):
        revoked = asking.ask("DELETE", f"/me/tokens/{made['id']}", "admin")
        assert revoked.status_code == 200 and revoked.json()["revoked"] is True
    assert asking.with_token(made["token"]).status_code == 401
    assert asking.ask("GET", "/me/tokens").json()["tokens"] == [revoked.json()]
    assert asking.ask("DELETE", "/me/tokens/tok_none").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_owners_and_admins_make_and_revoke_tokens_and_members_look(asking: Asking, role: Role) -> None:
    token_id = asking.made()["id"]
    allowed = role != "member"
    made = asking.ask("POST", "/me/tokens", role, {"name": role})
    assert made.status_code == (200 if allowed else 403)
    assert asking.ask("DELETE", f"/me/tokens/{token_id}", role).status_code == (200 if allowed else 403)
    listed = asking.ask("GET", "/me/tokens", role).json()["tokens"]
    assert [(each["name"], each["revoked"]) for each in listed] == (
        [("books", True), (role, False)] if allowed else [("books", False)]
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"name": "x", "scope": "write"}, "scope"),
        ({"name": "x", "expires_days": 0}, "expires_days"),
        ({"name": "x", "expires_days": 366}, "expires_days"),
        ({"name": "x", "expires_days": 1.5}, "expires_days"),
        ({"name": "x", "expires_days": True}, "expires_days"),
        ({"name": "x", "org": "org_else"}, "org"),
        ([], "body"),
    ],
)
def test_what_is_no_token_to_make_is_refused_by_name(asking: Asking, body: Any, param: str) -> None:
    error = asking.ask("POST", "/me/tokens", body=body).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert asking.ask("GET", "/me/tokens").json() == {"tokens": []}


def test_a_name_is_taken_once_and_an_idempotency_key_answers_the_same(asking: Asking) -> None:
    body = {"name": "books", "expires_days": 7}
    first = asking.ask("POST", "/me/tokens", body=body, key="k")
    again = asking.ask("POST", "/me/tokens", body=body, key="k")
    assert first.json() == again.json() and first.status_code == 200
    other = asking.ask("POST", "/me/tokens", body={"name": "x"}, key="k")
    assert other.json()["error"]["param"] == "Idempotency-Key"
    taken = asking.ask("POST", "/me/tokens", body=body)
    assert (taken.status_code, taken.json()["error"]["code"]) == (400, "duplicate_token_name")


def test_a_token_of_another_site_is_not_asked_for_by_its_page(asking: Asking) -> None:
    asking.client.cookies.set("br_session", issue(SECRET, "org_acme", "owner", "", NOW_MS))
    foreign = {"Sec-Fetch-Site": "cross-site"}
    answer = asking.client.post("/me/tokens", json={"name": "x"}, headers=foreign)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_a_token_asks_no_more_often_than_a_session() -> None:
    asking = Asking(requests_per_s=1)
    with asking.client:
        token = asking.made()["token"]
        assert [asking.with_token(token).status_code for _ in range(12)] == [200] * 10 + [429] * 2


def test_while_kafka_is_away_tokens_open_and_none_is_made_or_revoked() -> None:
    book = TokenBook(SECRET, lambda: NOW_MS)
    is_away = False

    async def write(record: TokenRecord) -> None:
        if is_away:
            raise UnavailableError("no broker")
        book.take(record)

    asking = Asking(TokenRegister(SECRET, lambda: NOW_MS, book, write))
    with asking.client:
        made = asking.made()
        is_away = True
        for method, path, body in (
            ("POST", "/me/tokens", {"name": "x"}),
            ("DELETE", f"/me/tokens/{made['id']}", None),
        ):
            answer = asking.ask(method, path, body=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert asking.with_token(made["token"]).status_code == 200

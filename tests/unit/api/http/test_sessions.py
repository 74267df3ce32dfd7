"""Session tokens: what opens a session, and everything that does not."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import jwt
import pytest

from pipeline.api.http.sessions import InvalidSessionError, Session, issue, issue_again, verify

SECRET = "a secret of the tests, long enough to sign with, by any algorithm they try"
NOW_MS = 1_781_289_000_123
NOW_S = NOW_MS // 1000
CLAIMS = {"org": "org_1", "role": "owner", "email": "a@b.example", "iat": NOW_S, "exp": NOW_S + 60}


def signed(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_what_is_issued_is_valid_until_it_ends() -> None:
    token = issue(SECRET, "org_1", "member", "a@b.example", NOW_MS, ttl_s=60)
    session = verify(SECRET, token, NOW_MS)
    end_ms = (NOW_S + 60) * 1000
    assert session == Session("org_1", "member", "a@b.example", session.session_id, NOW_MS, end_ms)
    assert verify(SECRET, token, end_ms - 1).scope.org == "org_1"
    with pytest.raises(InvalidSessionError):
        verify(SECRET, token, end_ms)


def test_the_librarys_clock_is_not_asked() -> None:
    long_ago = issue(SECRET, "org_1", "owner", "a@b.example", 1_000_000, ttl_s=60)
    assert verify(SECRET, long_ago, 1_000_001).org == "org_1"
    far_ahead = issue(SECRET, "org_1", "owner", "a@b.example", 10**14, ttl_s=60)
    assert verify(SECRET, far_ahead, 10**14).org == "org_1"


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "another secret, long enough to sign with, by any algorithm that the tests try"},
        {"algorithm": "HS512"},
        {"org": None},
        {"org": ""},
        {"org": "o" * 129},
        {"org": 7},
        {"org": ["org_1"]},
        {"role": None},
        {"role": "admin "},
        {"role": "root"},
        {"role": ["owner"]},
        {"email": None},
        {"email": 5},
        {"exp": None},
        {"exp": str(NOW_MS)},
        {"exp": 1e18},
        {"exp": True},
        {"exp": NOW_S},
        {"exp": NOW_S + 24 * 3600 + 1},
        {"iat": None},
        {"iat": str(NOW_S)},
        {"iat": 1.5},
        {"iat": True},
        {"issued_ms": str(NOW_MS)},
        {"issued_ms": NOW_MS + 1000},
        {"issued_ms": None, "iat": NOW_S - 24 * 3600},
    ],
)
def test_what_opens_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSessionError):
        verify(SECRET, signed(**changes), NOW_MS)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é.é.é", "." * 5_000, signed()[:-2], signed() + "x"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(InvalidSessionError):
        verify(SECRET, token, NOW_MS)


def test_a_token_without_a_signature_opens_nothing() -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for header in (
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "HS256", "typ": "JWT", "b64": False, "crit": ["b64"]},
    ):
        with pytest.raises(InvalidSessionError):
            verify(SECRET, f"{part(header)}.{part(CLAIMS)}.", NOW_MS)


def test_what_others_issue_with_the_secret_opens_a_session_too() -> None:
    """The dashboard before the product knows the claims of docs/billing-page.md, and has no milliseconds."""
    for more in ({}, {"jti": "theirs"}, {"aud": None, "name": "Asha"}):
        session = verify(SECRET, signed(**more), NOW_MS)
        assert (session.org, session.issued_ms) == ("org_1", NOW_S * 1000)


def test_no_two_sessions_are_one_and_no_other_spelling_makes_one_two() -> None:
    tokens = [issue(SECRET, "org_1", "owner", "a@b.example", NOW_MS) for _ in range(2)]
    tokens += [signed(), signed(jti="1"), signed(jti="2")]
    ids = {verify(SECRET, token, NOW_MS).session_id for token in tokens}
    assert len(ids) == len(tokens)
    # The last character of 32 bytes in base64 has two bits to spare: four texts may be read as the same signature.
    token = tokens[0]
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=":
        with suppress(InvalidSessionError):
            assert verify(SECRET, token[:-1] + last, NOW_MS) == verify(SECRET, token, NOW_MS)


def test_a_session_in_the_place_of_another_is_no_longer_and_was_issued_when_that_was() -> None:
    first = verify(SECRET, issue(SECRET, "org_1", "admin", "a@b.example", NOW_MS, ttl_s=90), NOW_MS)
    second = verify(SECRET, issue_again(SECRET, first), NOW_MS + 1_000)
    assert second.session_id != first.session_id
    assert second == Session("org_1", "admin", "a@b.example", second.session_id, NOW_MS, first.expires_ms)

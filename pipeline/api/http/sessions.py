"""Who is asking: signed session tokens, and the org that comes from them and from nowhere else.

Owns: the token's claims, issuing and verifying. The time is an argument.
Called by: `api/services/sessions.py`; `cli/sessions.py` and the demo issue tokens.

A token is a JWT (RFC 7519) signed with HS256. Whoever holds the session secret may issue one, the dashboard before
this product too: docs/billing-page.md has the claims.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jwt

from pipeline.clickhouse.queries import OrgScope
from pipeline.session_book import SESSION_MAX_MS

ALGORITHM = "HS256"
COOKIE = "br_session"
ORG_LENGTH_MAX = 128
DEFAULT_TTL_S = 12 * 3600

Role = Literal["owner", "admin", "member"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Session:
    """A verified session: a member of an org, with a role, from `issued_ms` until `expires_ms`."""

    org: str
    role: Role
    email: str
    session_id: str
    issued_ms: int
    expires_ms: int

    @property
    def manages_keys(self) -> bool:
        """Whether it may make, change and revoke keys and access tokens."""
        return self.role != "member"

    @property
    def origin(self) -> str:
        """What a session has in common with those that it is exchanged for, one after another, and with no others."""
        return json.dumps([self.org, self.email, self.issued_ms, self.expires_ms])

    @property
    def scope(self) -> OrgScope:
        """What this session's queries may see."""
        return OrgScope(self.org)


class InvalidSessionError(Exception):
    """A token that opens nothing: malformed, forged, expired, incomplete, or of a session that was ended."""


def issue(secret: str, org: str, role: Role, email: str, now_ms: int, ttl_s: int = DEFAULT_TTL_S) -> str:
    """Return a signed token for a member of an org, valid for `ttl_s` seconds from now."""
    return _signed(secret, org, role, email, now_ms, now_ms // 1000 + ttl_s)


def issue_again(secret: str, session: Session) -> str:
    """Return another token for the same member, which is over when the session is.

    It was issued when the session was: what an operator ends by that time, ends with it.
    """
    expires_s = session.expires_ms // 1000
    return _signed(secret, session.org, session.role, session.email, session.issued_ms, expires_s)


def verify(secret: str, token: str, now_ms: int) -> Session:
    """Return the session of a token. Raises InvalidSessionError for any token that is not ours and valid."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            # The clock is an argument, so the library's own look at it is off.
            options={
                "require": ["org", "role", "email", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidSessionError(str(error)) from error
    org, role, email = claims["org"], claims["role"], claims["email"]
    if not (isinstance(org, str) and 1 <= len(org) <= ORG_LENGTH_MAX and isinstance(email, str)):
        raise InvalidSessionError("the org or the email is no text of its kind")
    if role not in ROLES:
        raise InvalidSessionError("the role is unknown")
    issued_ms, expires_ms = _times(claims)
    if now_ms >= expires_ms:
        raise InvalidSessionError("the session is over")
    return Session(org, role, email, _id_of(claims), issued_ms, expires_ms)


def _signed(secret: str, org: str, role: Role, email: str, issued_ms: int, expires_s: int) -> str:
    claims = {
        "org": org,
        "role": role,
        "email": email,
        "iat": issued_ms // 1000,
        "issued_ms": issued_ms,
        "exp": expires_s,
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def _times(claims: dict[str, Any]) -> tuple[int, int]:
    """Return when a session was issued and when it expires, in milliseconds. Raises InvalidSessionError.

    `issued_ms` is our own claim, as `iat` is in seconds; who issues tokens elsewhere may leave it out.
    """
    issued_s, expires_s = claims["iat"], claims["exp"]
    if type(issued_s) is not int or type(expires_s) is not int:
        raise InvalidSessionError("a time is no whole number of seconds")
    issued_ms = claims.get("issued_ms", issued_s * 1000)
    if type(issued_ms) is not int or issued_ms // 1000 != issued_s:
        raise InvalidSessionError("the two times of issue are not the same")
    if expires_s * 1000 - issued_ms > SESSION_MAX_MS:
        raise InvalidSessionError(f"it would last longer than {SESSION_MAX_MS // 3_600_000} hours")
    return issued_ms, expires_s * 1000


def _id_of(claims: dict[str, Any]) -> str:
    """Return what tells a session from others: its claims, whose `jti` nobody else has.

    Not the token's text: the same bytes may be spelt in several ways, and each would pass for another session.
    """
    return hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).hexdigest()[:32]

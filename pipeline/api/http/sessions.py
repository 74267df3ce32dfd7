"""Who is asking: signed session tokens, and the org that comes from them and from nowhere else.

Owns: the token's claims, issuing and verifying. Pure: the time is an argument.
Called by: `api/services/dependencies.py`, `api/routes/pages.py`; `cli/accounts.py` issues tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import jwt

from pipeline.clickhouse.queries import OrgScope

ALGORITHM = "HS256"
COOKIE = "br_session"
ORG_LENGTH_MAX = 128
DEFAULT_TTL_S = 12 * 3600

Role = Literal["owner", "admin", "member"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Session:
    """A verified session: a member of an org, with a role."""

    org: str
    role: Role
    email: str

    @property
    def scope(self) -> OrgScope:
        """What this session's queries may see."""
        return OrgScope(self.org)


class InvalidSessionError(Exception):
    """A token that opens nothing: malformed, forged, expired or incomplete."""


def issue(secret: str, org: str, role: Role, email: str, now_ms: int, ttl_s: int = DEFAULT_TTL_S) -> str:
    """Return a signed token for a member of an org, valid for `ttl_s` seconds from now."""
    issued_s = now_ms // 1000
    claims = {"org": org, "role": role, "email": email, "iat": issued_s, "exp": issued_s + ttl_s}
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def verify(secret: str, token: str, now_ms: int) -> Session:
    """Return the session of a token. Raises InvalidSessionError for any token that is not ours and valid."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            # The clock is an argument, so the library's own look at it is off.
            options={
                "require": ["org", "role", "email", "exp"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidSessionError(str(error)) from error
    org, role, email, expires_s = claims["org"], claims["role"], claims["email"], claims["exp"]
    if not (isinstance(org, str) and 1 <= len(org) <= ORG_LENGTH_MAX and isinstance(email, str)):
        raise InvalidSessionError("the org or the email is no text of its kind")
    if role not in ROLES:
        raise InvalidSessionError("the role is unknown")
    if type(expires_s) is not int or now_ms >= expires_s * 1000:
        raise InvalidSessionError("the session is over")
    return Session(org, role, email)

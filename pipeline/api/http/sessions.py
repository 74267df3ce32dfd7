"""Who is asking: signed session tokens, and the org that comes from them and from nowhere else.

Owns: the token's claims, issuing and verifying, and the dependency every `/me/*` route has.
Called by: the `/me/*` routers; `metering session` issues tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import jwt
from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from pipeline.api.http.errors import ApiError
from pipeline.api.http.origin import check_same_origin
from pipeline.api.services.context import PartsOf
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


_bearer = HTTPBearer(auto_error=False, description="A session token")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="A session token")


async def signed_in(
    request: Request,
    parts: PartsOf,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> Session:
    """Return the caller's session, from the Authorization header or else the cookie; 401 without one."""
    token = bearer.credentials if bearer is not None else cookie
    if bearer is None and request.method not in ("GET", "HEAD"):
        # A browser sends the cookie along whoever made the page that asks.
        check_same_origin(request, parts.public_url)
    try:
        return verify(parts.session_secret, token or "", parts.now_ms())
    except InvalidSessionError:
        raise ApiError(
            401,
            "no_session",
            "this needs a valid session: Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        ) from None


SignedIn = Annotated[Session, Depends(signed_in)]

"""What a route can ask for in its parameters: the app's context, its services, and who is asking.

Owns: the FastAPI dependencies of all routes, so that a router is a module's value and needs nothing handed in.
Called by: every module of `api/routes/`. Next: `api/services/context.py`, `api/services/sessions.py`, `api/services/tokens.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Cookie, Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from pipeline.api.http.errors import ApiError, too_many, unavailable
from pipeline.api.http.origin import check_same_origin
from pipeline.api.http.sessions import COOKIE, InvalidSessionError, Session
from pipeline.api.services.accounts import AccountServices
from pipeline.api.services.coalesced_reads import CoalescedReads
from pipeline.api.services.context import AppContext
from pipeline.api.services.history import History
from pipeline.outcomes import RefusalCode
from pipeline.token_book import START


async def context_of(request: Request) -> AppContext:
    """Return the context of the app that a request came to."""
    context = request.app.state.context
    assert isinstance(context, AppContext)
    return context


ContextOf = Annotated[AppContext, Depends(context_of)]


async def accounts_of(context: ContextOf) -> AccountServices:
    """Return what asks the accounts' owners. Raises ApiError 503 in an app that was made without."""
    if context.accounts is None:
        raise unavailable()
    return context.accounts


AccountsOf = Annotated[AccountServices, Depends(accounts_of)]


def turns_of(reads: str) -> Callable[[Request], Coroutine[Any, Any, asyncio.Semaphore]]:
    """Return the dependency that lets so many dear reads of a kind in at a time: `app.state` has their number."""

    async def turns(request: Request) -> asyncio.Semaphore:
        found = getattr(request.app.state, f"{reads}_turns")
        assert isinstance(found, asyncio.Semaphore)
        return found

    return turns


async def history_of(request: Request, _asked: AccountsOf) -> History:
    """Return what tells the past of the app's orgs, which asks the accounts' owners."""
    history = request.app.state.history
    assert isinstance(history, History)
    return history


HistoryOf = Annotated[History, Depends(history_of)]


async def coalesced_reads_of(request: Request) -> CoalescedReads:
    """Return the shared reads of the app that a request came to."""
    reads = request.app.state.coalesced_reads
    assert isinstance(reads, CoalescedReads)
    return reads


CoalescedReadsOf = Annotated[CoalescedReads, Depends(coalesced_reads_of)]

_bearer = HTTPBearer(
    auto_error=False, description="A session token; or an access token, `brt-...`, which only reads"
)
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="A session token")


async def signed_in(
    request: Request,
    context: ContextOf,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> Session:
    """Return the caller's session, from the Authorization header or else the cookie; 401 without one.

    An access token opens one too, in the header and to read: whatever is no GET is 403.
    """
    reads = request.method in ("GET", "HEAD")
    token = bearer.credentials if bearer is not None else cookie
    if bearer is None and not reads:
        # A browser sends the cookie along whoever made the page that asks.
        check_same_origin(request, context.public_url)
    if bearer is not None and bearer.credentials.startswith(START):
        session = _opened_by(context, bearer.credentials, reads=reads)
    else:
        try:
            session = context.sessions.session(token or "")
        except InvalidSessionError:
            raise ApiError(RefusalCode.NO_SESSION, headers={"WWW-Authenticate": "Bearer"}) from None
    _count(context, session)
    return session


def _count(context: AppContext, session: Session) -> None:
    """Count a request of a session. Raises ApiError 429 where it sends too many."""
    wait_ms = context.session_requests.take(session.session_id, context.now_ms())
    if wait_ms:
        raise too_many(wait_ms)


def _opened_by(context: AppContext, access_token: str, *, reads: bool) -> Session:
    """Return what an access token opens. Raises ApiError 401, or 403 where it is not to read."""
    try:
        session = context.tokens.session(access_token)
    except InvalidSessionError:
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiError(RefusalCode.INVALID_TOKEN, headers=headers) from None
    if not reads:
        raise ApiError(RefusalCode.FORBIDDEN, "an access token only reads; this needs a session")
    return session


SignedIn = Annotated[Session, Depends(signed_in)]


def session_of(context: AppContext, token: str | None) -> Session | None:
    """Return the session that a token opens, None where it opens none."""
    try:
        return context.sessions.session(token or "")
    except InvalidSessionError:
        return None


async def visitor(
    context: ContextOf, token: Annotated[str | None, Cookie(alias=COOKIE)] = None
) -> Session | None:
    """Return the session of whoever looks at a page, None for a stranger; 429 for who looks too often."""
    session = session_of(context, token)
    if session is not None:
        _count(context, session)
    return session


Visitor = Annotated[Session | None, Depends(visitor)]


async def member(session: Visitor) -> Session:
    """Return the session of whoever looks at a page of an org; 401 for a stranger."""
    if session is None:
        raise ApiError(RefusalCode.NO_SESSION)
    return session


Member = Annotated[Session, Depends(member)]


async def owner_only(session: SignedIn) -> Session:
    """Return the session of an owner; 403 for other roles."""
    if session.role != "owner":
        raise ApiError(RefusalCode.FORBIDDEN, "only an owner of the org may change its billing")
    return session


OwnerSession = Annotated[Session, Depends(owner_only)]


async def key_manager(session: SignedIn) -> Session:
    """Return the session of who may change keys and access tokens; 403 for a member."""
    if not session.manages_keys:
        raise ApiError(
            RefusalCode.FORBIDDEN,
            "only an owner or an admin of the org may change its keys and access tokens",
        )
    return session


KeyManagerSession = Annotated[Session, Depends(key_manager)]

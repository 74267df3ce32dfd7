"""The pages: `/billing`, and the way in and out (`/login`, `/logout`).

Owns: the session cookie, and which page a visitor sees.
Called by: `api/server/app.py`. Next: `api/templates/`, and the JSON API from the browser.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import RedirectResponse

from pipeline.api.http.errors import invalid, too_many
from pipeline.api.http.origin import came_from_elsewhere, check_same_origin
from pipeline.api.http.sessions import COOKIE, InvalidSessionError, Session
from pipeline.api.pages import assets
from pipeline.api.pages.policy import checkout_policy, plain_policy
from pipeline.api.pages.rendering import page
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, Visitor
from pipeline.pincodes import ATTRIBUTION

FORM_BYTES_MAX = 16_384
HOME = "/overview"

router = APIRouter(include_in_schema=False)


@router.get("/assets/{version}/{name}")
async def asset(version: str, name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """One of the pages' scripts and styles, and no other file."""
    return assets.asset_file(version, name, accept_encoding)


@router.get("/billing")
async def billing(context: ContextOf, session: Visitor) -> Response:
    """The billing page of the session's org; without a session, how to get one."""
    if session is None:
        return page("login.html", None, status=401, problem=None)
    # Only an owner can pay, so only an owner's page may load anything for it.
    owner = session.role == "owner"
    return page(
        "billing.html",
        session,
        here="/billing",
        asks=("/me/billing?limit=10",),
        policy=checkout_policy(context.checkout_url) if owner else plain_policy(),
        owner=owner,
        checkout_url=context.checkout_url if owner else "",
        attribution=ATTRIBUTION,
    )


@router.get("/login")
async def login(request: Request, context: ContextOf, token: str | None = None) -> Response:
    """Exchange the session of a link for another in the cookie, or ask for a token.

    A link works once, and soon after its session was issued. Who comes by another site's link is asked first: the
    link may be into somebody else's org.
    """
    if token is None:
        return page("login.html", None, problem=None)
    try:
        session = context.sessions.linked(token)
        if came_from_elsewhere(request):
            return page("confirm.html", session, token=token)
        return await _exchanged(request, context, session)
    except InvalidSessionError:
        return _refused()


@router.post("/login")
async def login_form(request: Request, context: ContextOf) -> Response:
    """Exchange the session of a token that was typed in for another in the cookie."""
    check_same_origin(request, context.public_url)
    token = await _field(request, "token")
    try:
        return await _exchanged(request, context, context.sessions.session(token))
    except InvalidSessionError:
        return _refused()


@router.post("/logout")
async def logout(request: Request, context: ContextOf, session: Visitor) -> Response:
    """End the session, everywhere, and forget the cookie. Where that cannot be recorded now, 503, and neither."""
    check_same_origin(request, context.public_url)
    if session is not None:
        async with answered_in_time():
            await context.sessions.end(session)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return response


async def _field(request: Request, name: str) -> str:
    """Return a field of a submitted form. Raises ApiError for a body that is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise invalid("body", "the form is too large")
    try:
        values = parse_qs(body.decode("ascii"), max_num_fields=10).get(name, [""])
    except ValueError:
        raise invalid("body", "the form cannot be read") from None
    return values[0].strip()


async def _exchanged(request: Request, context: AppContext, session: Session) -> Response:
    """End a session and open another in its place. Raises InvalidSessionError where somebody else was first."""
    wait_ms = context.session_exchanges.take(session.origin, context.now_ms())
    if wait_ms:
        raise too_many(wait_ms)
    async with answered_in_time():
        token = await context.sessions.exchange(session)
    secure = request.url.scheme == "https" or (context.public_url or "").startswith("https://")
    response = RedirectResponse(HOME, 303)
    # Lax, so that the link in a mail finds the session; what changes something checks the origin as well.
    response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="lax", secure=secure)
    return response


def _refused() -> Response:
    problem = "This token is not valid, was used before, or its time is over. Ask for a new one."
    return page("login.html", None, status=401, problem=problem)

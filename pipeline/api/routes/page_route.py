"""Routes that answer people: what goes wrong is told on a page, in words, with the way around it still there.

Called by: `api/routes/dashboard.py`. Next: `api/templates/problem.html`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from pipeline.api.http.errors import ApiError, told_of
from pipeline.api.http.sessions import COOKIE
from pipeline.api.pages.rendering import page
from pipeline.api.services.dependencies import context_of, session_of
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.outcomes import RefusalCode

_TITLES = {
    RefusalCode.NOT_FOUND: "There is nothing here",
    RefusalCode.UNAVAILABLE: "This does not work right now",
    RefusalCode.NO_SESSION: "Sign in",
}
_WORDS = {
    RefusalCode.NOT_FOUND: "This does not exist, or it belongs to another organisation.",
    RefusalCode.UNAVAILABLE: "A part that this page needs does not answer. Nothing was lost; try again in a moment.",
}


class PageRoute(APIRoute):
    """A route whose failures are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with the failures of the route's own work taken."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (ApiError, RequestValidationError, EngineUnavailable) as error:
                return await problem_page(request, told_of(error))

        return handle


async def problem_page(request: Request, error: ApiError) -> Response:
    """Return a failure as a page; who is signed in keeps the navigation."""
    context = await context_of(request)
    session = session_of(context, request.cookies.get(COOKIE))
    code = error.code
    if code is RefusalCode.NO_SESSION:
        return page("login.html", None, status=401, problem=None)
    of_activity = request.url.path.startswith("/activity/")
    answer = page(
        "problem.html",
        session,
        status=code.status,
        here="/activity" if of_activity else "",
        of_activity=of_activity,
        title=_TITLES.get(code, "This cannot be shown"),
        words=_WORDS.get(code, f"{error.message[:1].upper()}{error.message[1:]}."),
    )
    answer.headers.update(error.headers)
    return answer

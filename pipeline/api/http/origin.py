"""Whether a request that changes something comes from our own pages.

Owns: that one decision. Called by: the login and logout routes, and to be asked wherever a session that
came as a cookie changes something: a browser sends the cookie for other sites' pages too.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from pipeline.api.http.errors import ApiError
from pipeline.outcomes import RefusalCode

_OURS = ("same-origin", "none")


def check_same_origin(request: Request, public_url: str | None = None) -> None:
    """Raise ApiError 403 for a request that a page of another origin made a browser send.

    Programs that are no browser send neither header, and have no cookie that others could ride on.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        allowed = site in _OURS
    elif origin is not None:
        hosts = {request.headers.get("host"), urlsplit(public_url).netloc if public_url else None}
        allowed = urlsplit(origin).netloc in hosts - {None, ""}
    else:
        allowed = True
    if not allowed:
        raise ApiError(RefusalCode.FORBIDDEN, "this can only be asked from the product's own pages")


def came_from_elsewhere(request: Request) -> bool:
    """Return whether a page of another origin led the browser here."""
    return request.headers.get("sec-fetch-site", "none") not in _OURS

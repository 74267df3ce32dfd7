"""A page as an answer: its template, where its files are, and the headers that pages have.

Called by: `api/routes/pages.py`, `api/routes/dashboard.py`, `api/routes/page_route.py`.
Next: `api/templates/`.
"""

from __future__ import annotations

from fastapi import Response

from pipeline.api.http.sessions import Session
from pipeline.api.pages import assets, navigation
from pipeline.api.pages.policy import plain_policy
from pipeline.api.pages.templates import template

ASSETS = f"/assets/{assets.VERSION}"


def page(
    name: str,
    session: Session | None,
    *,
    status: int = 200,
    here: str = "",
    policy: str = plain_policy(),
    asks: tuple[str, ...] = (),
    **values: object,
) -> Response:
    """Return a page for whoever looks at it. `here` is the address of its place in the navigation, if it has one.

    `asks` are the addresses of the API that its script asks first, letter for letter: the browser then asks them while
    it still loads the script, and the script finds the answers there.
    """
    html = rendered(name, session, here=here, asks=asks, **values)
    return Response(html, status, media_type="text/html", headers=page_headers("private, no-store", policy))


def rendered(
    name: str, session: Session | None, *, here: str = "", asks: tuple[str, ...] = (), **values: object
) -> str:
    """Return the text of a page, as `page` sends it."""
    # Who has not yet agreed to sign in (`token`) is shown as a stranger.
    is_member = session is not None and "token" not in values
    return template(name).render(
        assets=ASSETS,
        session=session,
        is_member=is_member,
        places=navigation.places(is_member=is_member),
        here=here,
        asks=asks,
        **values,
    )


def page_headers(cache_control: str, policy: str = plain_policy()) -> dict[str, str]:
    """Return the headers that pages have."""
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": cache_control,
        # Razorpay asks which site opened its Checkout; no path and no query is told.
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }

"""`/me/tokens`: an org's access tokens, for programs that read its figures.

Called by: `api/server/app.py`. Next: `api/services/tokens.py` makes and revokes them.

A token opens the GETs of `/me/*` for its org, that of its own list too, which shows no token. Making and revoking take
a session of an owner or an admin, as with keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline.api.http.answers import Documented, Moment, failures, json_answer, moment
from pipeline.api.http.bodies import ExactRoute, WholeNumber
from pipeline.api.http.idempotency import IdempotencyKey, fingerprint
from pipeline.api.http.parameters import only
from pipeline.api.routes.keys import Name
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.dependencies import ContextOf, KeyManagerSession, SignedIn
from pipeline.token_book import EXPIRY_DAYS_MAX, TokenRecord

EXPIRY_DAYS_DEFAULT = 90

router = APIRouter(tags=["tokens"], route_class=ExactRoute)


class NewToken(BaseModel):
    """A token to make. It always expires: after 90 days where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scope: Literal["read"] = "read"
    expires_days: Annotated[WholeNumber, Field(ge=1, le=EXPIRY_DAYS_MAX)] | None = None


class TokenShown(Documented):
    """A token as its org sees it; `prefix` is its beginning. Revoked or past `expires_at`, it opens nothing."""

    id: str
    name: str
    scope: Literal["read"]
    prefix: str
    created_at: Moment
    expires_at: Moment
    revoked: bool


class TokenMade(TokenShown):
    """A new token; `token` is shown this once."""

    token: str


class TokensAnswer(Documented):
    """The org's tokens, oldest first, also those that ended in the last 30 days."""

    tokens: list[TokenShown]


@router.get("/me/tokens", response_model=TokensAnswer, responses=failures(401))
async def list_tokens(
    session: SignedIn, context: ContextOf, _checked: Annotated[None, Depends(only())]
) -> Response:
    """All tokens in force, and those that ended in the last 30 days."""
    return json_answer({"tokens": [_shown(record) for record in context.tokens.of_org(session.org)]})


@router.post("/me/tokens", response_model=TokenMade, responses=failures(400, 401, 403, 429))
async def create_token(
    session: KeyManagerSession,
    body: NewToken,
    context: ContextOf,
    _checked: Annotated[None, Depends(only())],
    key: IdempotencyKey = None,
) -> Response:
    """Make a token. It is shown in this answer only; the same Idempotency-Key shows it again."""
    request = fingerprint(body.model_dump_json())
    async with answered_in_time():
        made, text = await context.tokens.create(
            session.org, body.name, body.expires_days or EXPIRY_DAYS_DEFAULT, request, key
        )
    return json_answer({**_shown(made), "token": text})


@router.delete("/me/tokens/{id}", response_model=TokenShown, responses=failures(401, 403, 404))
async def revoke_token(
    session: KeyManagerSession,
    context: ContextOf,
    id: str,  # noqa: A002 - the name in the path
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """Revoke a token for good. Every server that reaches Kafka knows within a second."""
    async with answered_in_time():
        return json_answer(_shown(await context.tokens.revoke(session.org, id)))


def _shown(record: TokenRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "name": record.name,
        "scope": "read",
        "prefix": record.prefix,
        "created_at": moment(record.created_ms),
        "expires_at": moment(record.expires_ms),
        "revoked": record.revoked_ms > 0,
    }

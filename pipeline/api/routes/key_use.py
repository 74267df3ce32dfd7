"""`GET /me/keys/use`: when each key was used last.

Called by: `api/server/app.py`. Next: `sql/queries/keys_last_used.sql`.

It is no part of `/me/keys`, which asks the account's owner: a list of keys has to be there with the engine away.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from msgspec import Struct

from pipeline.api.http.answers import Documented, Moment, failures, json_answer, moment
from pipeline.api.http.parameters import DAYS_MAX, last_days, only
from pipeline.api.services.dependencies import ContextOf, SignedIn
from pipeline.clickhouse.queries import query

router = APIRouter(tags=["keys"])


class KeyUse(Documented):
    """A key, and the time of its request that was charged last, failed and free ones included."""

    key_id: str
    key_name: str | None
    last_used_at: Moment


class KeyUseAnswer(Documented):
    """The keys that made requests in the last 366 IST days, by id."""

    as_of: Moment
    keys: list[KeyUse]


class _LastUse(Struct, array_like=True, frozen=True):
    key_id: str
    at_ms: int


@router.get("/me/keys/use", response_model=KeyUseAnswer, responses=failures(400, 401))
async def key_use(
    session: SignedIn, context: ContextOf, _checked: Annotated[None, Depends(only())]
) -> Response:
    """When each key was used last, within 366 days."""
    now_ms = context.now_ms()
    days = last_days(now_ms, DAYS_MAX)
    bound = query("keys_last_used").of_org(session.scope, from_day=days.first, to_day=days.last)
    rows = await context.engine_of(session.scope).async_query(
        bound.sql, bound.parameters, row=_LastUse, settings={"max_threads": 1}
    )
    keys = [
        {
            "key_id": row.key_id,
            "key_name": context.key_name(session.scope, row.key_id),
            "last_used_at": moment(row.at_ms),
        }
        for row in rows
    ]
    return json_answer({"as_of": moment(now_ms), "keys": keys})

"""`GET /v1/rankings`: the most used models of the whole platform, for everyone.

Owns: the answer kept in memory, and that it is computed once however many ask at the same moment.
Called by: `api/server/app.py`. Next: `sql/queries/rankings.sql`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import date
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct
from pydantic import Field

from pipeline.api.http import metrics
from pipeline.api.http.answers import Count, Documented, Moment, failures, json_answer, moment
from pipeline.api.http.parameters import last_days, only
from pipeline.api.services.context import AppContext
from pipeline.clickhouse.shards import ask_all

router = APIRouter(tags=["public"])

KEPT_MS = 120_000
RECENT_DAYS, DAYS = 7, 30
_CACHE_CONTROL = "public, max-age=60"
_NOT_CACHED = "no-store"


class RankedModel(Documented):
    """One model's requests and tokens over a window."""

    model: str
    requests: Count
    tokens: Count


class Windows(Documented):
    """The windows, each with the most tokens first."""

    recent: Annotated[list[RankedModel], Field(alias="7d")]
    month: Annotated[list[RankedModel], Field(alias="30d")]


class RankingsAnswer(Documented):
    """The most used models on the catalog."""

    as_of: Moment
    windows: Windows


class _ModelRow(Struct, array_like=True, frozen=True):
    model: str
    recent_requests: int
    recent_tokens: int
    requests: int
    tokens: int


_decode_rows = msgspec.json.Decoder(_ModelRow).decode_lines


Ranked = list[tuple[str, int, int]]
"""Models with their requests and tokens, most tokens first."""


class Ranking(Struct, frozen=True):
    """The rankings as they were computed: the models of each window, and the same as JSON."""

    as_of_ms: int
    windows: dict[str, Ranked]
    answer: bytes
    empty: bool
    first_day: date
    until_ms: int


class Rankings:
    """Computes the rankings and keeps them for two minutes, but not beyond their IST day, nor if empty."""

    def __init__(self, context: AppContext) -> None:
        """Start with nothing kept."""
        self._context = context
        self._latest: Ranking | None = None
        self._under_way: asyncio.Task[Ranking] | None = None

    async def latest(self) -> Ranking:
        """Return the rankings. Raises EngineUnavailable where they cannot be computed."""
        latest = self._latest
        return latest if latest is not None and self._is_fresh(latest) else await self._compute_once()

    async def answer(self) -> Response:
        """Return the rankings as an answer. Raises EngineUnavailable where they cannot be computed."""
        latest = await self.latest()
        return json_answer(latest.answer, _NOT_CACHED if latest.empty else _CACHE_CONTROL)

    def _is_fresh(self, computed: Ranking) -> bool:
        now_ms = self._context.now_ms()
        return now_ms < computed.until_ms and computed.first_day == last_days(now_ms, DAYS).first

    async def _compute_once(self) -> Ranking:
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._compute())
        # A caller that leaves must not end the computation that others wait for.
        return await asyncio.shield(self._under_way)

    async def _compute(self) -> Ranking:
        metrics.RANKINGS_COMPUTED.inc()
        now_ms = self._context.now_ms()
        days, recent = last_days(now_ms, DAYS), last_days(now_ms, RECENT_DAYS)
        of_days = {"from_day": days.first, "recent_day": recent.first, "to_day": days.last}
        rows = _decode_rows(await ask_all(self._context.database, "rankings", of_days))
        on_catalog = self._context.rates.models_in_force(now_ms)
        rows = [row for row in rows if row.model in on_catalog]
        windows = {
            "7d": _ranked((row.model, row.recent_requests, row.recent_tokens) for row in rows),
            "30d": _ranked((row.model, row.requests, row.tokens) for row in rows),
        }
        shown = {name: [_shown(*model) for model in models] for name, models in windows.items()}
        answer = msgspec.json.encode({"as_of": moment(now_ms), "windows": shown})
        computed = Ranking(now_ms, windows, answer, not rows, days.first, now_ms + KEPT_MS)
        self._latest = None if computed.empty else computed
        return computed


def _ranked(models: Iterable[tuple[str, int, int]]) -> Ranked:
    """Return models with their requests and tokens, most tokens first, those without requests left out."""
    return sorted((m for m in models if m[1]), key=lambda m: (-m[2], -m[1], m[0]))


def _shown(model: str, requests: int, tokens: int) -> dict[str, object]:
    return {"model": model, "requests": requests, "tokens": tokens}


async def rankings_of(request: Request) -> Rankings:
    """Return the rankings of the app that a request came to."""
    shared = request.app.state.rankings
    assert isinstance(shared, Rankings)
    return shared


RankingsOf = Annotated[Rankings, Depends(rankings_of)]


@router.get("/v1/rankings", response_model=RankingsAnswer, responses=failures(400))
async def rankings(shared: RankingsOf, _checked: Annotated[None, Depends(only())]) -> Response:
    """The most used models on the catalog over the last 7 and 30 IST days. No session; kept two minutes."""
    return await shared.answer()

"""`GET /healthz` and `/metrics`: is it ready, and how is it doing.

Called by: `api/server/app.py`. Next: the checks in `AppContext`, which say how each part is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.api.http.addresses import is_near
from pipeline.api.http.answers import failures
from pipeline.api.http.errors import not_found
from pipeline.api.services.context import AppContext, Check
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.shards import Database
from pipeline.exposition import MetricsText

log = logging.getLogger(__name__)

CHECK_SECONDS = 3
READY = "ok"
DATABASE = "clickhouse"
"""What the checks of ClickHouse are called, or begin with."""
KEPT_MS = 1000

router = APIRouter(tags=["operations"])


def engine_checks(database: Database) -> dict[str, Check]:
    """Return the check of ClickHouse by the name that it goes by, or one of each shard: `clickhouse shard 1 of 2`."""
    shards = database.shards
    if len(shards) == 1:
        return {DATABASE: engine_check(shards[0])}
    return {f"{DATABASE} {engine.shard}": engine_check(engine) for engine in shards}


def engine_check(engine: Engine) -> Check:
    """Return the check that asks the engine for its schema. It logs what is wrong when that changes, not at each look."""
    told: str | None = None

    async def check() -> str | None:
        nonlocal told
        try:
            await engine.async_ping()
        except (EngineError, EngineUnavailable) as error:
            if str(error) != told:
                level = logging.ERROR if error.needs_operator else logging.WARNING
                log.log(level, "ClickHouse is not ready: %s", error)
            told = str(error)
            return told if error.needs_operator else "does not answer, or has no schema"
        told = None
        return None

    return check


async def is_operator(request: Request) -> bool:
    """Whether an operator may be asking: from this machine or a private network, through no proxy."""
    return request.client is not None and is_near(request.client.host, request.headers)


IsOperator = Annotated[bool, Depends(is_operator)]


@router.get(
    "/healthz",
    response_model=dict[str, str],
    responses={503: {"model": dict[str, str], "description": "A part is not ready; it says why"}},
)
async def healthz(request: Request, operator: IsOperator) -> JSONResponse:
    """200 once every part is ready, else 503; each part by its name, `ok` or what is wrong.

    Strangers, who come from public addresses or through a proxy, are told of one part, `server`.
    """
    kept = request.app.state.kept_health
    assert isinstance(kept, KeptHealth)
    problems = await kept.problems()
    is_ready = not any(problems.values())
    words = {name: problem or READY for name, problem in problems.items()}
    if not operator:
        words = {"server": READY if is_ready else "not ready"}
    return JSONResponse(words, 200 if is_ready else 503)


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **failures(404)}
)
async def metrics(request: Request, operator: IsOperator) -> Response:
    """Prometheus text, made once a second however many ask; strangers are answered 404."""
    if not operator:
        raise not_found("no such endpoint")
    kept = request.app.state.metrics_text
    assert isinstance(kept, MetricsText)
    return Response(kept.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


class KeptHealth:
    """Each part and what is wrong with it, found out at most once a second: nobody can make a server ask its parts more."""

    def __init__(self, context: AppContext) -> None:
        """Start with nothing found out."""
        self._context, self._asking = context, asyncio.Lock()
        self._problems: Mapping[str, str | None] = {}
        self._found_ms = -KEPT_MS

    async def problems(self) -> Mapping[str, str | None]:
        """Return what is wrong with each part, None where nothing is; of now, or of at most a second ago."""
        async with self._asking:
            if not 0 <= self._context.now_ms() - self._found_ms < KEPT_MS:
                checks = self._context.checks
                found = await asyncio.gather(*(_ask(name, check) for name, check in checks.items()))
                # Those who have waited meanwhile get this too, however long it took.
                self._problems, self._found_ms = dict(zip(checks, found, strict=True)), self._context.now_ms()
            return self._problems


async def _ask(name: str, check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), CHECK_SECONDS)
    except TimeoutError:
        return "does not answer in time"
    except Exception:
        # A check that breaks says as much as one that fails, and the other parts still have to be named.
        log.exception("the check of %s failed", name)
        return "its check failed"

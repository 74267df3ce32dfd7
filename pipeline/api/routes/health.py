"""`GET /healthz` and `/metrics`: is it ready, and how is it doing.

Called by: `api/server/app.py`. Next: the checks in `AppContext`, which ask each part.
"""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline.api.services.context import Check
from pipeline.api.services.dependencies import ContextOf
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable

log = logging.getLogger(__name__)

CHECK_SECONDS = 3
READY = "ok"

router = APIRouter(tags=["operations"])


def engine_check(engine: Engine) -> Check:
    """Return the check that asks the engine for its database."""

    async def check() -> str | None:
        try:
            await engine.async_ping()
        except (EngineError, EngineUnavailable) as error:
            log.warning("the engine is not ready: %s", error)
            return "does not answer, or has no schema"
        return None

    return check


@router.get(
    "/healthz",
    response_model=dict[str, str],
    responses={503: {"model": dict[str, str], "description": "A part is not ready; it says why"}},
)
async def healthz(context: ContextOf) -> JSONResponse:
    """200 once every part is ready, else 503; each part by its name, `ok` or what is wrong."""
    problems = await asyncio.gather(*(_ask(name, check) for name, check in context.checks.items()))
    found = {name: problem or READY for name, problem in zip(context.checks, problems, strict=True)}
    return JSONResponse(found, 503 if any(problems) else 200)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(context: ContextOf) -> Response:
    """Prometheus text."""
    return Response(generate_latest(context.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _ask(name: str, check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), CHECK_SECONDS)
    except TimeoutError:
        return "does not answer in time"
    except Exception:
        # A check that breaks says as much as one that fails, and the other parts still have to be named.
        log.exception("the check of %s failed", name)
        return "its check failed"

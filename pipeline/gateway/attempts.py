"""Run what talks to Kafka in a task of its own, so that however it ends, the caller goes on.

Owns: telling a failure from a cancellation of our own. aiokafka lets a cancellation of its inner tasks
through to whoever waits for them, which would end a task of ours for good, without a word.
Called by: `gateway/sending/sender.py` and `gateway/following/follow.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiokafka.errors import KafkaError

from pipeline.gateway.errors import GatewayError

log = logging.getLogger(__name__)

EXPECTED = (KafkaError, GatewayError, OSError, TimeoutError, asyncio.CancelledError)
CANCEL_LIMIT_S = 5.0


async def attempt(step: Coroutine[Any, Any, None], name: str) -> str | None:
    """Run a step to its end and return how it failed, None where it did not.

    A mistake of ours is logged with its traceback and counts as a failure too: the step is tried again.
    """
    task = asyncio.create_task(step)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_LIMIT_S)
        raise
    error = asyncio.CancelledError("was cancelled inside") if task.cancelled() else task.exception()
    if error is None:
        return None
    if not isinstance(error, EXPECTED):
        log.error("%s failed", name, exc_info=error)
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def within(limit_s: float, step: Coroutine[Any, Any, object]) -> None:
    """Run a step that lets go of something for as long as the limit, whatever it raises."""
    task = asyncio.create_task(step)
    await asyncio.wait([task], timeout=limit_s)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_LIMIT_S)
    if task.done() and not task.cancelled() and task.exception() is not None:
        log.debug("not stopped cleanly: %r", task.exception())

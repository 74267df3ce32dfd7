"""Run what talks to Kafka in a task of its own, so that however it ends, the caller goes on.

Owns: telling a failure from a cancellation of our own. When a broker goes away, aiokafka cancels tasks inside
itself, and those cancellations reach whoever waits for them: taken for our own, they would end a task of ours
for good, without a word.
Called by: `kafka/follow.py`, `kafka/reader.py`, what watches topics, and the gateway's sender.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError

from pipeline.kafka.refused import KafkaAwayError, in_one_line

log = logging.getLogger(__name__)

CANCEL_LIMIT_S = 5.0
_LOST_CONNECTION = (KafkaError, OSError, TimeoutError)


class ClientCancelledError(Exception):
    """aiokafka cancelled something inside itself, as it does when a broker goes away."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the Kafka client cancelled what it was asked to do")


async def attempt(
    step: Coroutine[Any, Any, None], name: str, *, expected: tuple[type[Exception], ...] = ()
) -> BaseException | None:
    """Run a step to its end and return the error that ended it, None where there was none.

    An error that is neither Kafka's nor of an `expected` type is a mistake in the program: it is logged with
    its traceback, and returned all the same, as the caller tries again.
    """
    task = asyncio.create_task(step)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_LIMIT_S)
        raise
    error = ClientCancelledError() if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, (*_LOST_CONNECTION, ClientCancelledError, *expected)):
        log.error("%s failed", name, exc_info=error)
    return error


async def keep_looking(
    look: Callable[[], Coroutine[Any, Any, None]], name: str, unknown: str, every_s: float
) -> None:
    """Look at something in Kafka again and again until cancelled, so many seconds after each look has ended or failed.

    Whatever goes wrong is tried again, and logged as `unknown` when it changes: who only looks on takes no process down.
    """
    told: str | None = None
    while True:
        failed = described(await attempt(look(), name))
        if failed is not None and failed != told:
            log.warning("%s: %s", unknown, failed)
        told = failed
        await asyncio.sleep(every_s)


async def unreached(step: Coroutine[Any, Any, None], name: str) -> BaseException | None:
    """Run a step to its end and return the error where Kafka could not be reached, None where it was done.

    Raises every other error.
    """
    error = await attempt(step, name)
    if error is not None and not isinstance(error, (*_LOST_CONNECTION, ClientCancelledError)):
        raise error
    return error


def may_begin_anew(error: BaseException) -> bool:
    """Whether what met an error may be begun anew: Kafka was lost, so that it was done or not, or somebody else has fenced it.

    Not where a person has to set something right.
    """
    if isinstance(error, KafkaAwayError):
        return True
    return isinstance(error, (*_LOST_CONNECTION, ClientCancelledError)) and in_one_line(error) is None


def described(error: BaseException | None) -> str | None:
    """Return what a person has to do about an error, else its type and message; None where there is no error."""
    if error is None:
        return None
    return in_one_line(error) or f"{type(error).__name__}: {error}".rstrip(": ")


async def within(limit_s: float, step: Coroutine[Any, Any, object]) -> None:
    """Run a step that lets go of something for as long as the limit, whatever it raises."""
    task = asyncio.create_task(step)
    await asyncio.wait([task], timeout=limit_s)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_LIMIT_S)
    if task.done() and not task.cancelled() and task.exception() is not None:
        log.debug("not stopped cleanly: %r", task.exception())


def error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the error that ended a task, None where it ended well or as somebody here cancelled it.

    A task that is cancelled and that nobody here cancelled ended with ClientCancelledError: taken for a wish to stop,
    its process would live on without it, or end with code 0 and not be started again.
    """
    if task.cancelled():
        return None if task.cancelling() else ClientCancelledError()
    return task.exception()


def is_cancelled() -> bool:
    """Whether somebody cancelled the current task, as opposed to a cancellation that aiokafka let escape."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

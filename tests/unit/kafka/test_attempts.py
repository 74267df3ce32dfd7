"""Running what talks to Kafka: its failures come back, a cancellation of ours goes through, its own does not."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from pipeline.kafka.attempts import ClientCancelledError, attempt, described, error_of, within


class _Expected(Exception):
    """A failure that the caller knows of."""


async def _raise(error: BaseException) -> None:
    raise error


async def test_how_a_step_failed_comes_back_and_only_a_mistake_of_ours_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for error in (KafkaConnectionError("gone"), OSError("refused"), TimeoutError(), _Expected("known")):
        assert await attempt(_raise(error), "reading", expected=(_Expected,)) is error
    assert caplog.messages == []
    mistake = KeyError("org")
    assert await attempt(_raise(mistake), "reading") is mistake
    assert caplog.messages == ["reading failed"]
    assert await attempt(asyncio.sleep(0), "reading") is None


async def test_a_cancellation_inside_the_client_is_a_failure_and_ours_ends_the_step() -> None:
    assert isinstance(await attempt(_raise(asyncio.CancelledError()), "reading"), ClientCancelledError)
    ended = asyncio.Event()

    async def step() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(attempt(step(), "reading"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_letting_go_takes_no_longer_than_its_limit_and_raises_nothing() -> None:
    async with asyncio.timeout(5):
        await within(0.01, asyncio.sleep(60))
        await within(1, _raise(OSError("gone")))


def test_an_error_is_described_by_type_and_message() -> None:
    assert described(OSError("refused")) == "OSError: refused"
    assert described(TimeoutError()) == "TimeoutError"
    assert described(None) is None


async def test_only_a_task_that_was_cancelled_here_ended_without_an_error() -> None:
    stray, mistaken, well, asked = (
        asyncio.create_task(step)
        for step in (
            _raise(asyncio.CancelledError()),
            _raise(OSError("gone")),
            asyncio.sleep(0),
            asyncio.sleep(60),
        )
    )
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([stray, mistaken, well, asked])
    assert isinstance(error_of(stray), ClientCancelledError)
    assert isinstance(error_of(mistaken), OSError)
    assert error_of(well) is None
    assert error_of(asked) is None

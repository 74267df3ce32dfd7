"""A part that fails is started again; what a person has to set right is told once, as one line, and shown as its problem."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from pipeline.api.server import supervised
from pipeline.api.server.supervised import SupervisedPart


class _Failing:
    """A part that always ends by the same error."""

    starts = 0
    problem = "not running"

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def run(self) -> None:
        type(self).starts += 1
        raise self._error


@pytest.mark.parametrize(
    ("error", "lines", "tracebacks"),
    [(TopicAuthorizationFailedError({"metering.mail"}), 1, 0), (KeyError("org"), 3, 3)],
)
async def test_a_missing_right_is_told_once_and_a_mistake_each_time(
    error: Exception,
    lines: int,
    tracebacks: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervised, "PAUSE_S", (0.0,))
    _Failing.starts = 0
    part = SupervisedPart("mailer", lambda: _Failing(error))
    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(part.run())
        while _Failing.starts < 3:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    assert len(caplog.records) == lines
    assert sum(record.exc_info is not None for record in caplog.records) == tracebacks
    shown = await part.problem() or ""
    assert ("metering.mail" if tracebacks == 0 else "KeyError") in shown

"""The sink's process ends well only where it was told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import cast

import pytest

from pipeline.kafka.attempts import ClientCancelledError
from pipeline.sink.main import run_until_stopped
from pipeline.sink.sink import Sink
from pipeline.status_server import RoleStatus


class _Runs:
    """What `run_until_stopped` needs of a sink: something to run."""

    def __init__(self, *, stray: bool) -> None:
        self._stray = stray

    async def run(self) -> None:
        if self._stray:
            raise asyncio.CancelledError
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()


async def test_a_signal_ends_it_well() -> None:
    async with asyncio.timeout(10):
        status = RoleStatus(lambda: {"sink": None})
        await run_until_stopped(cast("Sink", _Runs(stray=False)), status)
    assert status.ready() == (False, {"process": "stopping"})


async def test_a_cancellation_that_nobody_asked_for_is_an_error() -> None:
    with pytest.raises(ClientCancelledError):
        await run_until_stopped(cast("Sink", _Runs(stray=True)), RoleStatus(lambda: {"sink": None}))

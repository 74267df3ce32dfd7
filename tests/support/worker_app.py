"""The worker's Faust app without a Kafka: prints what its agents make of a batch of each topic, then ends with 0.

Run as `python -m tests.support.worker_app`; with the argument `bad` a partition's work raises, with
`stray` what reads the partitions is cancelled by nobody here, as a client does it that loses its broker. With `stops` it
is run as the product runs it, told to stop by a signal, and prints what `/readyz` says before and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

from pydantic import SecretStr

from pipeline import logs, topics
from pipeline.settings import Settings
from pipeline.worker import app as worker
from pipeline.worker.partition import Partition
from pipeline.worker.service import PartitionReader
from pipeline.worker.standstill import Activity
from tests.support.builders import COMMAND_KEY

LIMIT_S = 30.0
_SETTINGS = Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY))


class _Partition:
    """Stands for a partition of the worker: the app knows nothing of one but its `work` and `activity`."""

    def __init__(self, *, bad: bool) -> None:
        self._bad = bad
        self.activity = Activity(0.0)

    async def work(self, topic: str, records: Sequence[Any]) -> None:
        sys.stdout.write(f"{topic} {records}\n")
        if self._bad:
            raise ValueError("a mistake in a unit of work")


async def _never_read(_reader: PartitionReader) -> None:
    await asyncio.Event().wait()


async def _stray(_reader: PartitionReader) -> None:
    raise asyncio.CancelledError


def _stopped() -> None:
    PartitionReader.run = _never_read  # type: ignore[method-assign,assignment]  # it would connect
    PartitionReader.problem = None  # type: ignore[assignment,method-assign]
    app, _, status = worker.create_app(_SETTINGS)
    said = status.ready()

    async def on_started() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    app.on_started = on_started  # type: ignore[method-assign]
    running = worker.Worker(
        *(app, status),
        loglevel="INFO",
        logging_config=logs.config("info"),
        quiet=True,
        redirect_stdouts=False,
    )
    with contextlib.suppress(SystemExit):
        running.execute_from_commandline()
    sys.stdout.write(f"{said[0]} {status.ready()}\n")


async def _main(*, bad: bool, stray: bool) -> None:
    run = _stray if stray else _never_read
    PartitionReader.run = run  # type: ignore[method-assign,assignment]  # it would connect
    logs.configure("info")
    app, reader, _ = worker.create_app(_SETTINGS)
    reader._owned = {0: cast(Partition, _Partition(bad=bad))}
    await app.start()
    async with asyncio.timeout(LIMIT_S):
        while stray:
            await asyncio.sleep(0.01)
        for topic in topics.INPUTS:
            await reader.process(topic, 0, cast(Any, ["a record"]))
    sys.stdout.flush()
    os._exit(0)  # Faust's own way down waits for what was never there


if __name__ == "__main__":
    if "stops" in sys.argv[1:]:
        _stopped()
    else:
        asyncio.run(_main(bad="bad" in sys.argv[1:], stray="stray" in sys.argv[1:]))

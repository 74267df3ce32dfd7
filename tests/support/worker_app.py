"""The worker's Faust app without a Kafka: prints what its agents make of a batch of each topic, then ends with 0.

Run as `python -m tests.support.worker_app`; with the argument `bad` a partition's work raises, with
`stray` what reads the partitions is cancelled by nobody here, as a client does it that loses its broker.
"""

from __future__ import annotations

import asyncio
import os
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


async def _main(*, bad: bool, stray: bool) -> None:
    run = _stray if stray else _never_read
    PartitionReader.run = run  # type: ignore[method-assign,assignment]  # it would connect
    logs.configure("info")
    app, reader, _ = worker.create_app(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY))
    )
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
    asyncio.run(_main(bad="bad" in sys.argv[1:], stray="stray" in sys.argv[1:]))

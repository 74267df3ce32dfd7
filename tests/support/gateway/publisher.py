"""A gateway process to be killed: publishes without end and prints each id that `publish` returned.

Arguments: the Kafka URL, the spool's directory, and the durability. It ends by itself when its input ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pipeline.gateway import Gateway
from tests.support.builders import DROP, event

PUBLISHERS = 16


async def _publish(gateway: Gateway, publisher: int, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        org = f"org_{(publisher * 7 + number) % 40}"
        given_id = f"{os.getpid()}-{publisher}-{number}" if number % 5 == 0 else DROP
        event_id = await gateway.publish(event(subject=org, id=given_id, source=DROP))
        # One system call a line, so that a kill never leaves half a line.
        os.write(1, f"{event_id}\n".encode())


async def _main(kafka_url: str, spool_dir: str, durability: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stop.set)
    async with Gateway(
        kafka_url=kafka_url,
        node="killed",
        spool_dir=Path(spool_dir),
        durability="process" if durability == "process" else "fsync",
        spool_bytes_max=64 * 1024 * 1024,
    ) as gateway:
        await asyncio.gather(*(_publish(gateway, number, stop) for number in range(PUBLISHERS)))
        assert gateway.status().problems == ()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

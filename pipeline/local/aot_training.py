"""Make the broker's AOT cache: run a broker once, have it do a little of everything, and let its JVM write down what it loaded.

Owns: that run, which JEP 483 calls the training run, and putting the cache in place whole.
Called by: `make setup` (`python -m pipeline.local.aot_training`).  Next: `local/broker.py`.

Where it fails, nothing is missing but some seconds of every start of the broker, so it is told and is no error.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from aiokafka.errors import KafkaError

from pipeline import logs
from pipeline.connection import KafkaConnection
from pipeline.kafka import clients
from pipeline.kafka.admin import TopicsError, ensure_topics
from pipeline.local import aot_cache, jars
from pipeline.local.broker import JVM_OPTIONS, Broker
from pipeline.local.errors import LocalError
from pipeline.settings import CommonSettings
from pipeline.topics import REQUESTS

STOP_SECONDS_MAX = 120.0
"""The JVM writes the cache before it ends, some seconds long on a core of its own."""


async def train(cache: Path) -> None:
    """Write the cache of this release's broker to a path, which must be free. Raises LocalError or a KafkaError."""
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".training-") as scratch:
        written = Path(scratch) / cache.name
        broker = Broker(Path(scratch) / "broker", 0, is_synced=False, options=aot_cache.make(written))
        try:
            await broker.start()
            await _use(broker.connection)
        finally:
            await broker.stop(STOP_SECONDS_MAX)
        if not written.exists():
            words = broker.log.read_text(encoding="utf-8", errors="replace")
            raise LocalError(f"the JVM wrote no cache; its last words: {words[-500:]}")
        written.rename(cache)


async def _use(kafka: KafkaConnection) -> None:
    """Do what the product does: make topics, write in a transaction, read in a group."""
    await ensure_topics(kafka, CommonSettings(kafka_url=f"kafka://{kafka.servers}", partitions=1))
    async with clients.producer(kafka, transactional_id="training") as producer, producer.transaction():
        await producer.send_and_wait(REQUESTS, b"{}", partition=0)
    async with clients.consumer(kafka, REQUESTS, group_id="training") as consumer:
        await consumer.getone()
        await consumer.commit()


def main() -> None:
    """Make the cache where there is none for what is installed, and remove those of former releases."""
    # What goes wrong is raised; what the client says while a broker is new is nothing to read in a set-up.
    logs.configure("ERROR")
    cache = aot_cache.path(":".join(str(jar) for jar in jars.ensure()), JVM_OPTIONS)
    if not cache.exists():
        try:
            asyncio.run(train(cache))
        except (LocalError, TopicsError, KafkaError, TimeoutError) as error:
            sys.stderr.write(
                f"no cache of the broker's classes, so each of its starts takes longer: {error}\n"
            )
            return
    for old in aot_cache.others(cache):
        old.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

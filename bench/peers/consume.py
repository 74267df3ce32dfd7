"""Raw consumption and decoding: what any consumer in Python has to pay before it does anything.

Reads `metering.requests` with aiokafka as the worker does and decodes each record with the product's own
decoder, nothing else. Prints events, wall seconds and CPU seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import topics
from pipeline.events import decode_record
from pipeline.worker.service import FETCH_BYTES


async def main() -> None:
    """Read every partition to its end once."""
    places = [TopicPartition(topics.REQUESTS, p) for p in range(int(os.environ["METERING_PARTITIONS"]))]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=os.environ["METERING_KAFKA_URL"].removeprefix("kafka://"),
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    left = sum((await consumer.end_offsets(places)).values())
    events, wall, cpu = 0, time.monotonic(), time.process_time()
    while left:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            left -= len(records)
            for record in records:
                events += len(decode_record(record.value) or ())
    print(json.dumps([events, time.monotonic() - wall, time.process_time() - cpu]))
    await consumer.stop()


asyncio.run(main())

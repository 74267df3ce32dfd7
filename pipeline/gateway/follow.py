"""Follow what the worker tells gateways: verdicts, progress and keys, from the beginning and then live.

Owns: the consumer, starting over after a failure, and knowing how recent the last word is.
Called by: `gateway/gateway.py`. Next: `gateway/admission.py` takes in what is read.

The topics are compacted, so reading them from the beginning gives the newest word on every org and key.
Freshness is asked of the broker itself, as silence on a topic may mean that nothing happens or that
nothing arrives: what counts is the last time that everything up to the broker's end had been read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.accounts.keys import decode_key
from pipeline.accounts.verdicts import Verdict, decode_record
from pipeline.connection import KafkaConnection
from pipeline.gateway.admission import Admission
from pipeline.gateway.attempts import attempt, within
from pipeline.gateway.errors import GatewayError
from pipeline.kafka import clients
from pipeline.topics import KEYS, VERDICTS

log = logging.getLogger(__name__)

START_LIMIT_S = 15.0
PROBE_EVERY_S = 1.0
PROBE_LIMIT_S = 5.0
SILENCE_LIMIT_S = 20.0
"""After so long without being at the broker's end, a new consumer is tried."""
BACKOFF_S = 0.5
STOP_LIMIT_S = 2.0
RECORDS_A_TURN = 500
FETCH_BYTES = 512 * 1024
FETCH_WAIT_MS = 20
"""A partition that has just been read waits for the fetch under way before it is fetched again: verdicts
there are late by up to this."""


class SilentError(GatewayError):
    """The consumer has not been at the end of its topics for too long."""


class Follower:
    """Keeps an `Admission` up to date, for as long as it runs."""

    def __init__(self, kafka: KafkaConnection, options: Mapping[str, Any], admission: Admission) -> None:
        """Prepare to read from some brokers."""
        self._kafka, self._options, self._admission = kafka, options, admission
        self._positions: dict[TopicPartition, int] = {}
        self._unknown = 0
        self._taking = False
        self.ready = asyncio.Event()
        self.problem: str | None = None

    async def run(self) -> None:
        """Follow until cancelled, starting over where it was after every failure."""
        while True:
            consumer = clients.consumer(
                self._kafka,
                VERDICTS,
                KEYS,
                fetch_max_wait_ms=FETCH_WAIT_MS,
                max_partition_fetch_bytes=FETCH_BYTES,
                **self._options,
            )
            try:
                problem = await attempt(self._follow(consumer), f"following {VERDICTS}")
            finally:
                await within(STOP_LIMIT_S, consumer.stop())
            if problem != self.problem:
                log.warning("following %s is interrupted: %s", VERDICTS, problem)
            self.problem = problem
            await asyncio.sleep(BACKOFF_S)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.timeout(START_LIMIT_S):
            await consumer.start()
        places = sorted(consumer.assignment())
        if {place.topic for place in places} != {VERDICTS, KEYS}:
            raise SilentError(f"{VERDICTS} or {KEYS} does not exist yet")
        for place in places:
            if place in self._positions:
                consumer.seek(place, self._positions[place])
        tasks = [
            asyncio.create_task(self._read(consumer)),
            asyncio.create_task(self._probe(consumer, places)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            self._taking = False
            # Few records a turn: reading a large topic must not hold up the requests that are being served.
            batches = await consumer.getmany(timeout_ms=1000, max_records=RECORDS_A_TURN)
            self._taking = True
            for place, records in batches.items():
                for record in records:
                    self._take(place.topic, record)
                self._positions[place] = records[-1].offset + 1
            await asyncio.sleep(0)

    def _take(self, topic: str, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        try:
            if topic == KEYS:
                self._admission.take_key(decode_key(record.value))
                return
            said = decode_record(record.key or b"", record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Of a newer version, maybe; the other orgs' verdicts count all the same.
            self._unknown += 1
            if self._unknown == 1:
                log.exception("%s/%d@%d cannot be read", topic, record.partition, record.offset)
            return
        if isinstance(said, Verdict):
            self._admission.take_verdict(said)
        else:
            self._admission.take_progress(said)

    async def _probe(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
        """Ask the broker for the ends again and again, and note each time that all of it has been read."""
        at_end_s = time.monotonic()
        while True:
            asked_ms = int(time.time() * 1000)
            async with asyncio.timeout(PROBE_LIMIT_S):
                ends = await consumer.end_offsets(places)
            while self._taking or not await self._is_past(consumer, ends):
                if time.monotonic() - at_end_s > SILENCE_LIMIT_S and self.ready.is_set():
                    raise SilentError(f"the end of {VERDICTS} was not reached for {SILENCE_LIMIT_S:.0f} s")
                await asyncio.sleep(0.02)
            at_end_s = time.monotonic()
            self._admission.heard(asked_ms)
            self.ready.set()
            self.problem = None
            await asyncio.sleep(PROBE_EVERY_S)

    @staticmethod
    async def _is_past(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        for place, end in ends.items():
            if await consumer.position(place) < end:
                return False
        return True

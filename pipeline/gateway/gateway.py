"""The gateway library: ask before a request, publish after it.

Owns: starting and stopping the parts, and `publish` from the mapping to the disk.
Called by: gateway nodes. Next: `gateway/admission/admission.py` answers `admit`; `gateway/sending/writer.py` stores what is
published; `gateway/sending/sender.py` carries it to Kafka; `gateway/following/follow.py` brings the verdicts back.

A gateway belongs to one event loop, and one process has one spool. docs/gateway.md is its manual.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from msgspec import Struct

from pipeline.accounts.keys import KeyRecord
from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.gateway.admission.admission import Admission, WhenStale
from pipeline.gateway.admission.amounts import Amount
from pipeline.gateway.admission.holds import Hold
from pipeline.gateway.errors import GatewayClosed, SpoolError, SpoolFull, SpoolUnclear
from pipeline.gateway.following.follow import verdict_follower
from pipeline.gateway.sending.batches import Record
from pipeline.gateway.sending.entry import SpoolEntry, encode, size_of
from pipeline.gateway.sending.prepare import Prepared, prepare
from pipeline.gateway.sending.sender import SpoolSender
from pipeline.gateway.sending.spool import Spool
from pipeline.gateway.sending.writer import Pending, SpoolWriter
from pipeline.gateway_book import GatewayKey

log = logging.getLogger(__name__)

NODE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
SEGMENT_BYTES = 16 * 1024 * 1024
GIVEN_IDS_KEPT = 200_000
TICK_S = 0.5
RANDOM_BYTES = 10
IDS_A_DRAW = 1024
SEGMENT_BYTES_MIN = 4096
WRITER_LIMIT_S = 5.0

Durability = Literal["fsync", "process"]


class Status(Struct, frozen=True):
    """How a gateway stands. Ages in milliseconds, sizes in bytes; `problems` is empty when all is well.

    `waiting` events are stored and not yet acknowledged by Kafka; at `spool_bytes_max` no more are taken. `verdict_age_ms` is None before the
    verdicts were first read to their end.
    """

    ready: bool
    stale: bool
    verdict_age_ms: int | None
    uncounted_ms: int
    waiting_events: int
    waiting_bytes: int
    spool_bytes_max: int
    records_sent: int
    reservations_open: int
    orgs_known: int
    problems: tuple[str, ...]


class Gateway:
    """What a gateway node holds: `async with Gateway(...) as gateway`."""

    def __init__(  # noqa: PLR0913 - the settings of a gateway, all by keyword
        self,
        *,
        kafka_url: str,
        node: str,
        spool_dir: str | os.PathLike[str],
        durability: Durability = "fsync",
        spool_bytes_max: int = 1024**3,
        when_stale: WhenStale = "open",
        stale_after_s: float = 10.0,
        reservation_limit_s: float = 900.0,
        linger_ms: int = 3,
        ready_limit_s: float = 10.0,
        unread_limit_s: float = 60.0,
        drain_limit_s: float = 10.0,
        publish_limit_s: float = 30.0,
        key: str | None = None,
        kafka_security: KafkaSecurity | None = None,
        kafka_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; `async with` starts it. Raises ValueError for a setting that cannot be.

        `key` is what `metering gateway create` printed, METERING_GATEWAY_KEY where absent: records are signed with it.
        Without `kafka_security` the variables METERING_KAFKA_... say how to sign in at the brokers.
        `kafka_options` go to aiokafka's clients as they are. docs/gateway.md explains each.
        """
        if not kafka_url.startswith("kafka://"):
            raise ValueError("kafka_url must look like kafka://host:port")
        if not NODE.match(node):
            raise ValueError("node must be 1 to 64 letters, digits, dots, dashes or underscores")
        if durability not in ("fsync", "process"):
            raise ValueError("durability is fsync or process")
        if when_stale not in ("open", "closed"):
            raise ValueError("when_stale is open or closed")
        text = key or os.environ.get("METERING_GATEWAY_KEY")
        self._key = GatewayKey.parse(text, node) if text else None
        security = kafka_security or KafkaSecurity.of_environment(os.environ)
        security.tls_context()
        self._kafka = KafkaConnection(kafka_url.removeprefix("kafka://").rstrip("/"), security)
        self._options = dict(kafka_options or {})
        self._node, self._directory, self._durability = node, Path(spool_dir), durability
        self._spool_bytes_max = spool_bytes_max
        self._linger_ms = linger_ms
        self._ready_limit_s, self._drain_limit_s = ready_limit_s, drain_limit_s
        self._publish_limit_s = publish_limit_s
        self._admission = Admission(
            _now_ms,
            when_stale=when_stale,
            stale_after_ms=int(stale_after_s * 1000),
            reservation_limit_ms=int(reservation_limit_s * 1000),
            unread_limit_ms=int(unread_limit_s * 1000),
        )
        # `Admission.admit` itself: it is asked before every request, and a method that only hands on would be a
        # third of its time.
        self.admit = self._admission.admit
        self._holds: dict[int, Hold] = {}
        self._publishing: dict[int, _Publishing] = {}
        self._given: dict[str, asyncio.Future[None] | None] = {}
        self._waiting_events = self._waiting_bytes = 0
        self._drained = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False
        self._random_bytes, self._random_at = b"", 0
        self._disk_problem: str | None = None

    # --- life ---

    async def __aenter__(self) -> Self:
        """Open the spool and start. Raises SpoolLocked or SpoolBroken; an absent Kafka is waited for.

        It returns once the verdicts have been read, or after `ready_limit_s` without them.
        """
        loop = self._loop = asyncio.get_running_loop()
        spool = self._spool = await loop.run_in_executor(None, self._open_spool)
        self.source = f"gateway/{self._node}/{spool.identity.spool}"
        self._number = spool.next_number
        self._writer = SpoolWriter(spool, loop)
        self._writer.start()
        self._sender = SpoolSender(
            spool,
            self._kafka,
            self._options,
            linger_ms=self._linger_ms,
            key=self._key,
            sent=self._sent,
            acknowledged=self._acknowledged,
        )
        self._follower = verdict_follower(self._kafka, self._options, self._admission)
        runs = (self._sender.run(), self._follower.run(), self._tick())
        self._tasks = [asyncio.create_task(run) for run in runs]
        self._open = True
        try:
            async with asyncio.timeout(self._ready_limit_s):
                await self._follower.ready.wait()
        except TimeoutError:
            log.warning("no verdicts within %.0f s: %s", self._ready_limit_s, self._follower.problem)
        except BaseException:
            await self._close(0.0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: take no more events, store what was handed over, and give Kafka a while to take it.

        What it does not take stays in the spool and is sent at the next start.
        """
        await self._close(self._drain_limit_s)

    def _open_spool(self) -> Spool:
        return Spool(
            self._directory,
            segment_bytes=min(SEGMENT_BYTES, max(self._spool_bytes_max // 4, SEGMENT_BYTES_MIN)),
            sync=self._durability == "fsync",
            now_ns=time.time_ns(),
            found=self._found,
        )

    def _found(self, entry: SpoolEntry, waiting: bool) -> None:
        """Take in an entry that the spool held at opening."""
        if entry.given_id:
            self._remember(entry.given_id, None)
        if waiting:
            self._waiting_events += 1
            self._waiting_bytes += size_of(entry)
            if entry.reserved_nano:
                self._holds[entry.number] = self._admission.spooled_before(entry.org, entry.reserved_nano)

    async def _close(self, drain_limit_s: float) -> None:
        self._open = False
        stopped = await self._loop.run_in_executor(None, self._writer.stop, WRITER_LIMIT_S)
        try:
            async with asyncio.timeout(drain_limit_s):
                while self._publishing or self._waiting_events:
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            log.warning("leaving %d events in the spool %s", self._waiting_events, self._directory)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if stopped:
            # Where the disk hangs, its threads still hold the files: they go with the process.
            await self._loop.run_in_executor(None, self._sender.close)
            await self._loop.run_in_executor(None, self._spool.close)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._admission.tick()
            self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        """Tell publishers whom the disk has not answered in time; what they handed over stays on its way."""
        before_s = time.monotonic() - self._publish_limit_s
        for publishing in self._publishing.values():
            if publishing.since_s > before_s:
                break
            if not publishing.done.done():
                self._disk_problem = f"the disk has not answered for {self._publish_limit_s:g} s"
                self._remember(publishing.event_id, publishing.done)
                publishing.done.set_exception(SpoolUnclear(self._disk_problem))
                publishing.done.exception()

    # --- before a request ---

    def release(
        self,
        org: str,
        key_id: str,
        max_cost_inr: Amount | None = None,
        request_id: str | None = None,
    ) -> bool:
        """Give back the reservation of a request that will not be published; False where there is none.

        Without a `request_id` it is one of the amount given, or the key's smallest.
        """
        return self._admission.release(org, key_id, max_cost_inr, request_id)

    def authenticate(self, api_key: str) -> KeyRecord | None:
        """Return the key that a secret belongs to, or None where it is unknown, revoked or expired."""
        return self._admission.key_of_hash(hashlib.sha256(api_key.encode("utf-8", "replace")).hexdigest())

    # --- after a request ---

    async def publish(self, event: Mapping[str, Any], *, request_id: str | None = None) -> str:
        """Store the event of a finished request and return its id: from then on it will be charged.

        `request_id` is the one given to `admit`, where one was. Raises InvalidEvent, SpoolFull,
        SpoolBroken, SpoolUnclear, GatewayClosed: docs/gateway.md says what to do with each.
        """
        if not self._open:
            raise GatewayClosed("the gateway is not running")
        prepared = prepare(event, self.source, _now_ms(), self._random(), self._number)
        event_id = prepared.event.id
        try:
            if not prepared.given_id:
                await self._hand_over(prepared, request_id)
                return event_id
            if event_id not in self._given:
                self._hand_over(prepared, request_id)
            done = self._given[event_id]
            if done is not None:
                # It leaves the future alone when this publisher is cancelled: others may wait for it.
                await asyncio.wait((done,))
                done.result()
        except SpoolError as error:
            raise type(error)(str(error), event_id) from error
        return event_id

    def _random(self) -> bytes:
        """Return random bytes for an id; they are drawn for many ids at once, as each draw is a system call."""
        at = self._random_at
        if at >= len(self._random_bytes):
            self._random_bytes, at = os.urandom(RANDOM_BYTES * IDS_A_DRAW), 0
        self._random_at = at + RANDOM_BYTES
        return self._random_bytes[at : at + RANDOM_BYTES]

    def _hand_over(self, prepared: Prepared, request_id: str | None) -> asyncio.Future[None]:
        """Give an event to the writer, with the reservation of its request; the next takes the next number."""
        event, value, number = prepared.event, prepared.value, self._number
        charged_to_balance = not event.data.byok and event.data.tier == "standard"
        if self._waiting_bytes + len(value) > self._spool_bytes_max:
            self._disk_problem = f"the spool holds {self._waiting_bytes} bytes that Kafka has not taken"
            raise SpoolFull(self._disk_problem, event.id)
        # From here on the event goes to the writer, whose answer ends what is begun here.
        self._number += 1
        hold = None
        if charged_to_balance:
            hold = self._admission.publishing(event.subject, event.data.key_id, request_id)
        reserved_nano = hold.amount_nano if hold is not None and not prepared.free else 0
        data = encode(SpoolEntry(number, event.subject, prepared.given_id, reserved_nano, value))
        if hold is not None and reserved_nano:
            self._holds[number] = hold
        done: asyncio.Future[None] = self._loop.create_future()
        self._publishing[number] = _Publishing(event.id, hold, prepared.free, done, time.monotonic())
        self._waiting_events += 1
        self._waiting_bytes += len(data)
        if prepared.given_id:
            self._remember(prepared.given_id, done)
        self._writer.put(Pending(data, number, done, self._stored))
        return done

    def _stored(self, pending: Pending, error: SpoolError | None) -> None:
        """Finish what `_hand_over` began, in the event loop."""
        publishing = self._publishing.pop(pending.number)
        self._disk_problem = None if error is None else str(error)
        hold, event_id = publishing.hold, publishing.event_id
        if error is not None:
            self._waiting_events -= 1
            self._waiting_bytes -= len(pending.data)
            self._holds.pop(pending.number, None)
            self._given.pop(event_id, None)
            if hold is not None:
                self._admission.unpublished(hold)
            self._drained.set()
            return
        if event_id in self._given:
            self._given[event_id] = None
        if hold is not None and publishing.is_free:
            self._admission.cost_nothing(hold)
        self._sender.wake()

    def _remember(self, event_id: str, done: asyncio.Future[None] | None) -> None:
        """Keep an id that the caller knows, so that the same event again is stored once."""
        self._given[event_id] = done
        if len(self._given) > GIVEN_IDS_KEPT:
            del self._given[next(iter(self._given))]

    def _sent(self, record: Record, offset: int) -> None:
        holds = [self._holds.pop(e.number, None) for e in record.entries if e.reserved_nano]
        self._admission.sent(record.partition, offset, [hold for hold in holds if hold is not None])

    def _acknowledged(self, entries: list[SpoolEntry]) -> None:
        self._waiting_events -= len(entries)
        self._waiting_bytes -= sum(size_of(entry) for entry in entries)
        self._drained.set()

    def status(self) -> Status:
        """Return how the gateway stands, for its metrics and health check."""
        admission = self._admission
        problems = (self._disk_problem, self._sender.problem, self._follower.problem)
        return Status(
            ready=admission.is_ready,
            stale=admission.is_stale(),
            verdict_age_ms=admission.age_ms() if admission.is_ready else None,
            uncounted_ms=admission.uncounted_ms(),
            waiting_events=self._waiting_events,
            waiting_bytes=self._waiting_bytes,
            spool_bytes_max=self._spool_bytes_max,
            records_sent=self._sender.records_sent,
            reservations_open=admission.reservations_open,
            orgs_known=admission.orgs_known,
            problems=tuple(problem for problem in problems if problem is not None),
        )


class _Publishing(Struct, eq=False):
    """What an event on its way to the disk has with it; a free one gives its reservation back."""

    event_id: str
    hold: Hold | None
    is_free: bool
    done: asyncio.Future[None]
    since_s: float


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

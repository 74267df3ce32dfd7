"""Ask the brokers how a deployment is: who runs, how far behind, and the figures that topics have.

Owns: those questions, and the time each may take. Called by: `cli/status.py`. Next: `status/found.py`.

Kafka alone knows this much of every deployment, wherever its roles run. How far a role has come is what its group's
offsets say, a moment late (docs/adr/0006-group-offsets-follow.md). Each question has a client and a limit of its own, so
one that is not answered leaves the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.formats import NewerFormatError
from pipeline.journal import JournalFormatError, JournalRecord, read_headers
from pipeline.kafka.attempts import attempt, described
from pipeline.kafka.bounded import FETCH, last_committed, newest_of_key
from pipeline.kafka.clients import started_admin, started_consumer
from pipeline.kafka.outgoing import group_of
from pipeline.kafka.partitions import PartitionsError, partition_count
from pipeline.notary.checkpoint import SignedCheckpoint
from pipeline.operations.verify_runs import PLACE, RUN_KEY, run_of
from pipeline.payments.order_index import OrderIndex
from pipeline.status.found import (
    Backlog,
    ConsumerGroup,
    KafkaFound,
    LastVerify,
    LetterCount,
    OrderCount,
    Unknown,
)

T = TypeVar("T")

LIMIT_S = 5.0
"""How long each question may take. They are asked side by side."""
REQUEST_MS_MAX = 3_000
READING_S = 2.5
"""How long letters and orders are counted: then at least so many are told."""
MINUTE_MS, DAY_MS = 60_000, 86_400_000
GROUPS = ("worker", "sink", "mail", "webhooks", "notary")
READ_BY: Mapping[str, tuple[str, ...]] = {"worker": topics.INPUTS, "sink": (topics.JOURNAL,)}
"""What the roles read whose lag is told."""
_EXPECTED = (
    PartitionsError,
    JournalFormatError,
    NewerFormatError,
    msgspec.MsgspecError,
    ValueError,
    KeyError,
)
_HEAD_FETCH = {"max_partition_fetch_bytes": 64 * 1024}
"""For clients that want one record of a partition. A batch that is larger comes all the same."""


async def look(kafka: KafkaConnection, deployment: str, now_ms: int) -> KafkaFound | Unknown:
    """Return what the brokers know as of an instant; Unknown where none answers or the topics are not there."""
    partitions = await _asked("counting partitions", partition_count(kafka))
    if isinstance(partitions, Unknown):
        return partitions
    groups = asyncio.gather(
        *(_asked("asking for a group", _group(kafka, deployment, name)) for name in GROUPS)
    )
    backlogs = asyncio.gather(
        *(
            _asked("asking for a lag", _backlog(kafka, group_of(deployment, role), read, partitions, now_ms))
            for role, read in READ_BY.items()
        )
    )
    brokers, posted, letters, orders, verified, signed = await asyncio.gather(
        _asked("asking who there is", _brokers(kafka)),
        _asked("counting what was posted", _posted(kafka, partitions, now_ms - MINUTE_MS)),
        _asked("counting dead letters", _letters(kafka, partitions, now_ms - DAY_MS)),
        _asked("counting orders", _orders(kafka, partitions, now_ms)),
        _asked("looking for the last verify", _verified(kafka)),
        _asked("looking for the last signed day", _signed_through(kafka)),
    )
    groups_found, backlogs_found = await groups, await backlogs
    if isinstance(brokers, Unknown):
        return brokers
    return KafkaFound(
        brokers=brokers,
        partitions=partitions,
        groups=dict(zip(GROUPS, groups_found, strict=True)),
        backlogs=dict(zip(READ_BY, backlogs_found, strict=True)),
        posted=posted,
        dead_letters=letters,
        orders=orders,
        verified=verified,
        signed_through=signed,
    )


async def _asked(name: str, question: Coroutine[Any, Any, T]) -> T | Unknown:
    """Return the answer to a question, or why there is none within LIMIT_S."""
    answers: list[T] = []

    async def ask() -> None:
        async with asyncio.timeout(LIMIT_S):
            answers.append(await question)

    error = await attempt(ask(), name, expected=_EXPECTED)
    if answers:
        return answers[0]
    if isinstance(error, TimeoutError):
        return Unknown(f"no answer from Kafka within {LIMIT_S:.0f} s")
    return Unknown(str(error) if isinstance(error, _EXPECTED) else described(error) or "Kafka gave no answer")


async def _brokers(kafka: KafkaConnection) -> int:
    async with started_admin(kafka, request_timeout_ms=REQUEST_MS_MAX) as admin:
        return len((await admin.describe_cluster())["brokers"])


async def _group(kafka: KafkaConnection, deployment: str, name: str) -> ConsumerGroup:
    """Return how a role's group is: one that Kafka has never heard of has no members."""
    async with started_admin(kafka, request_timeout_ms=REQUEST_MS_MAX) as admin:
        # One at a time: aiokafka reads an answer about several wrongly.
        [answer] = await admin.describe_consumer_groups([group_of(deployment, name)])
    [(code, _, state, _, _, members, *_)] = answer.groups
    if code:
        raise for_code(code)(group_of(deployment, name))
    held = [_partitions_of(assignment) for *_, assignment in members]
    return ConsumerGroup(state, len(members), frozenset[int]().union(*held))


def _partitions_of(assignment: bytes) -> set[int]:
    """Return the partitions that a member has, by the bytes it was told them with; none before it was told."""
    if not assignment:
        return set()
    decoded = ConsumerProtocolMemberAssignment.decode(BytesIO(assignment))
    return {partition for _, partitions in decoded.assignment for partition in partitions}


async def _backlog(
    kafka: KafkaConnection, group: str, read: Sequence[str], partitions: int, now_ms: int
) -> Backlog:
    """Return what a group has not done yet of the topics that it reads."""
    async with started_admin(kafka, request_timeout_ms=REQUEST_MS_MAX) as admin:
        done = await _done(admin, group)
    places = _places(read, partitions)
    async with _reading(kafka, places, **_HEAD_FETCH) as consumer:
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets([place for place in places if place not in done])
        offsets: Counter[int] = Counter(dict.fromkeys(range(partitions), 0))
        waiting = []
        for place in places:
            next_offset = done.get(place, begins.get(place, 0))
            offsets[place.partition] += max(0, ends[place] - next_offset)
            if ends[place] > next_offset:
                waiting.append((place, next_offset))
        oldest_ms: dict[int, int] = {}
        for place, next_offset in waiting:
            record = await _first(consumer, place, next_offset, ends[place])
            if record is not None:
                age_ms = max(0, now_ms - record.timestamp)
                oldest_ms[place.partition] = max(age_ms, oldest_ms.get(place.partition, 0))
    return Backlog(dict(offsets), oldest_ms)


async def _done(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """Return the offset below which a group has done everything, of each place that it has noted one of."""
    noted = await admin.list_consumer_group_offsets(group)
    return {place: int(at.offset) for place, at in noted.items() if at.offset >= 0}


async def _posted(kafka: KafkaConnection, partitions: int, since_ms: int) -> int:
    """Return how many rows the journal got since an instant: by the positions of the first record since, and the last."""
    places, rows = _places([topics.JOURNAL], partitions), 0
    async with _reading(kafka, places, **_HEAD_FETCH) as consumer:
        ends = await consumer.end_offsets(places)
        since = await consumer.offsets_for_times(dict.fromkeys(places, since_ms))
        for place, found in since.items():
            if found is None:
                continue
            first = await _first(consumer, place, found.offset, ends[place])
            if first is not None:
                last = await _last(consumer, place, found.offset, ends[place]) or first
                rows += _rows(last).last - _rows(first).first + 1
    return rows


def _rows(record: ConsumerRecord) -> JournalRecord:
    return read_headers(record.headers, record.value)


async def _letters(kafka: KafkaConnection, partitions: int, since_ms: int) -> LetterCount:
    places, reasons = _places([topics.DEAD_LETTERS], partitions), Counter[str]()
    async with started_consumer(kafka, **FETCH) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        since = await consumer.offsets_for_times(dict.fromkeys(places, since_ms))
        for place, found in since.items():
            consumer.seek(place, ends[place] if found is None else found.offset)
        is_whole = True
        async for records in _until_ends(consumer, ends):
            if records is None:
                is_whole = False
                break
            reasons.update(_reason(record) for record in records)
    return LetterCount(dict(reasons), is_whole)


def _reason(record: ConsumerRecord) -> str:
    said = dict(record.headers).get("reason") or b"without a reason"
    return said.decode("ascii", "replace")


async def _orders(kafka: KafkaConnection, partitions: int, now_ms: int) -> OrderCount:
    """Return how many orders are open, by the same index as a server's."""
    places, index, is_whole = _places([topics.ORDERS], partitions), OrderIndex(), True
    async with started_consumer(kafka, **FETCH) as consumer:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        async for records in _until_ends(consumer, await consumer.end_offsets(places)):
            if records is None:
                is_whole = False
                break
            for record in records:
                _take(index, record)
    return OrderCount(index.open_orders(now_ms), is_whole)


def _take(index: OrderIndex, record: ConsumerRecord) -> None:
    """Have an index take a record; what is no order is passed over, as servers do, which count and log it."""
    try:
        if record.value is None:
            index.delete(record.key or b"")
        else:
            index.put(record.key or b"", record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return


async def _verified(kafka: KafkaConnection) -> LastVerify | None:
    """Return what the last `metering verify` came to, None where none has come to its end."""
    noted = await newest_of_key(kafka, PLACE, RUN_KEY)
    run = None if noted is None else run_of(noted.value)
    return None if run is None else LastVerify(run.ended_ms, run.differences)


async def _signed_through(kafka: KafkaConnection) -> str | None:
    """Return the last IST day that was signed; the notary writes one record a day, in order."""
    last = await last_committed(kafka, TopicPartition(topics.CHECKPOINTS_STATE, 0))
    return None if last is None else msgspec.json.decode(last.value, type=SignedCheckpoint).day


def _places(names: Iterable[str], partitions: int) -> list[TopicPartition]:
    return [TopicPartition(name, partition) for name in names for partition in range(partitions)]


@asynccontextmanager
async def _reading(
    kafka: KafkaConnection, places: Sequence[TopicPartition], **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """Connect a consumer that fetches nothing of these places before `_first` or `_last` asks for it."""
    async with started_consumer(kafka, **options) as consumer:
        consumer.assign(places)
        consumer.pause(*places)
        yield consumer


async def _first(
    consumer: AIOKafkaConsumer, place: TopicPartition, offset: int, end: int
) -> ConsumerRecord | None:
    """Return the first record from an offset on and below an end, None where there are markers of transactions alone."""
    records = await _some(consumer, place, offset, end, most=1)
    return records[0] if records else None


async def _last(
    consumer: AIOKafkaConsumer, place: TopicPartition, low: int, end: int
) -> ConsumerRecord | None:
    """Return the last record from `low` on and below an end: it stands before the marker of its transaction."""
    back = 2
    while True:
        begin = max(low, end - back)
        records = await _some(consumer, place, begin, end)
        if records or begin == low:
            return records[-1] if records else None
        back *= 8


async def _some(
    consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, most: int | None = None
) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    consumer.seek(place, begin)
    consumer.resume(place)
    while await consumer.position(place) < end and (most is None or len(found) < most):
        batches = await consumer.getmany(place, timeout_ms=200, max_records=most)
        found += [record for record in batches.get(place, ()) if record.offset < end]
    consumer.pause(place)
    return found


async def _until_ends(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[Sequence[ConsumerRecord] | None]:
    """Yield what is read of some places up to their ends; None, and nothing more, where that takes longer than READING_S."""
    until_s = time.monotonic() + READING_S
    left = list(ends)
    while left := [place for place in left if await consumer.position(place) < ends[place]]:
        if time.monotonic() > until_s:
            yield None
            return
        for records in (await consumer.getmany(*left, timeout_ms=200)).values():
            yield records

"""Checkpoints of `metering verify`: what the journal came to, so that the next run reads only what was posted since.

Owns: the records of `metering.state.verify`, and which of them may be gone on from.
Called by: `operations/verify.py`. Next: `operations/audit.py` has the books that are kept.

Of each partition of the journal there is one checkpoint, written in one transaction: the record `head`, and as many
chunks as its accounts and payments take. The head has a hash over all journal records that were summed and one over
the chunks. So a damaged checkpoint is noticed at once, and a journal that was changed below a checkpoint, or a
checkpoint that somebody wrote by hand, by `verify --full`, which reads all and compares.

A checkpoint that cannot be used costs time, nothing else: then everything is read and it is made anew.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.formats import CHECKPOINTS, STATE
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.operations.audit import SUMS, Books, Rates
from pipeline.operations.verify_runs import RUN_KEY, encode_run
from pipeline.steps import Output, TopicPlace

HEAD_KEY, CHUNK, ROLL_UPS_KEY, SIGNED_KEY = b"head", b"c", b"roll-ups", b"signed"
CHUNK_BYTES = 512 * 1024
SMALL_A_CHUNK = 5_000
"""So many payments and redeemed codes, some 100 bytes each, are in a chunk."""


class CheckpointError(Exception):
    """A checkpoint cannot be gone on from; the message says why."""


class Head(Struct):
    """The head of a partition's checkpoint.

    `position` is the next of the journal and `next_offset` where its record is; `topic_id` is Kafka's id of the
    journal, None where it has none. `chain` is the hash over the records before, `body` the one over the chunks. `days`
    has the sums of each IST day, as decimal texts: nano-rupees of a whole platform may not fit into 64 bits.
    """

    format: int
    state_format: int
    partition: int
    position: int
    next_offset: int
    topic_id: str | None
    chain: bytes
    request_rows: int
    ledger_rows: int
    days: dict[int, list[str]]
    chunks: int
    body: bytes


class _Chunk(Struct, array_like=True):
    """Some accounts as the state topic has them, some payments, and some redeemed codes; amounts as decimal texts."""

    accounts: list[tuple[str, bytes]]
    paid: list[tuple[str, int, str, str]]
    redeemed: list[tuple[str, str, int]]


class _RollUps(Struct):
    """Up to which public id of each partition rows and roll-ups were seen to agree."""

    format: int
    ids: list[int]


class _SignedThrough(Struct):
    """Up to which IST day, as a number of days since 1970, what the notary signed was seen to agree."""

    format: int
    day: int


class _AnyRecord(Struct):
    """The one field that records of every format have."""

    format: int


_pack = msgspec.msgpack.Encoder().encode
_unpack_format = msgspec.msgpack.Decoder(_AnyRecord).decode
_unpack_head = msgspec.msgpack.Decoder(Head).decode
_unpack_chunk = msgspec.msgpack.Decoder(_Chunk).decode
_unpack_roll_ups = msgspec.msgpack.Decoder(_RollUps).decode
_unpack_signed = msgspec.msgpack.Decoder(_SignedThrough).decode


class Checkpoint:
    """A partition's checkpoint as it was read."""

    def __init__(self, head: Head, chunks: list[bytes]) -> None:
        """Keep a head and its chunks, which are decoded when they are asked for."""
        self.head, self._chunks = head, chunks

    def books(self, rates: Rates) -> Books:
        """Return the books to go on with."""
        head = self.head
        books = Books(
            head.partition,
            next_position=head.position,
            chain=head.chain,
            rates=rates,
            request_rows=head.request_rows,
            ledger_rows=head.ledger_rows,
        )
        for day, sums in head.days.items():
            books.days[day] = [int(each) for each in sums]
        for chunk in map(_unpack_chunk, self._chunks):
            books.resting.update(chunk.accounts)
            for payment_id, times, credited, returned in chunk.paid:
                books.paid[payment_id] = [times, int(credited), int(returned)]
            for org, code, times in chunk.redeemed:
                books.redeemed[org, code] = times
        return books

    def differs_from(self, books: Books) -> str | None:
        """Return what differs where the books, read from the beginning, have come to the checkpoint's position."""
        if books.chain != self.head.chain:
            return "the journal"
        mine = self.books(books.rates)
        mine_sums = (mine.orgs(), mine.days, mine.paid, mine.redeemed, mine.request_rows, mine.ledger_rows)
        if mine_sums != (
            books.orgs(),
            books.days,
            books.paid,
            books.redeemed,
            books.request_rows,
            books.ledger_rows,
        ):
            return "the sums"
        for org in mine.orgs():
            one, other = mine.spending(org), books.spending(org)
            if (one.credited_nano, one.debited_nano) != (other.credited_nano, other.debited_nano):
                return f"the account {org}"
        return None


def encode(books: Books, next_offset: int, topic_id: str | None) -> tuple[Head, list[bytes]]:
    """Return the head and the chunks of books whose last slice was taken."""
    chunks = [_pack(chunk) for chunk in _chunks_of(books)]
    body = hashlib.sha256()
    for chunk in chunks:
        body.update(chunk)
    head = Head(
        format=CHECKPOINTS.number,
        state_format=STATE.number,
        partition=books.partition,
        position=books.next_position,
        next_offset=next_offset,
        topic_id=topic_id,
        chain=books.chain,
        request_rows=books.request_rows,
        ledger_rows=books.ledger_rows,
        days={day: [str(each) for each in sums] for day, sums in books.days.items()},
        chunks=len(chunks),
        body=body.digest(),
    )
    return head, chunks


def _chunks_of(books: Books) -> Iterator[_Chunk]:
    """Yield the books in chunks of about CHUNK_BYTES, at least one."""
    paid = [(each, times, str(credited), str(back)) for each, (times, credited, back) in books.paid.items()]
    redeemed = [(org, code, times) for (org, code), times in books.redeemed.items()]
    yield _Chunk([], paid[:SMALL_A_CHUNK], redeemed[:SMALL_A_CHUNK])
    for start in range(SMALL_A_CHUNK, max(len(paid), len(redeemed)), SMALL_A_CHUNK):
        end = start + SMALL_A_CHUNK
        yield _Chunk([], paid[start:end], redeemed[start:end])
    chunk, size = _Chunk([], [], []), 0
    for org, spending in books.resting.items():
        chunk.accounts.append((org, spending))
        size += len(org) + len(spending)
        if size > CHUNK_BYTES:
            yield chunk
            chunk, size = _Chunk([], [], []), 0
    if chunk.accounts:
        yield chunk


def decode(records: dict[bytes, bytes]) -> Checkpoint | None:
    """Return the checkpoint of a partition's records, None where there is none. Raises CheckpointError."""
    if HEAD_KEY not in records:
        return None
    try:
        _check_format(records[HEAD_KEY])
        head = _unpack_head(records[HEAD_KEY])
        chunks = [records[_chunk_key(number)] for number in range(head.chunks)]
        if head.state_format != STATE.number:
            raise CheckpointError(f"it holds accounts of the format {head.state_format}")
        if hashlib.sha256(b"".join(chunks)).digest() != head.body:
            raise CheckpointError("it is not what was written: somebody changed it, or it is damaged")
        for sums in head.days.values():
            if len(sums) != SUMS:
                raise CheckpointError("its days have other sums")
        return Checkpoint(head, chunks)
    except (msgspec.MsgspecError, KeyError) as error:
        raise CheckpointError(f"it cannot be read: {error!r}") from None


def _check_format(value: bytes) -> None:
    number = _unpack_format(value).format
    if number != CHECKPOINTS.number:
        raise CheckpointError(f"it has the format {number}, and this release knows {CHECKPOINTS.number}")


def _chunk_key(number: int) -> bytes:
    return CHUNK + number.to_bytes(4)


class Checkpoints:
    """The checkpoints of a deployment, in Kafka."""

    def __init__(self, kafka: KafkaConnection, deployment: str) -> None:
        """Prepare; nothing is connected before something is kept."""
        self._kafka, self._transactional_id = kafka, f"{deployment}-verify"
        self._log: FencedLog | None = None
        self._keys: dict[int, set[bytes]] = defaultdict(set)

    async def read(self, partition: int) -> Checkpoint | None:
        """Return a partition's checkpoint, None before the first. Raises CheckpointError for one that cannot be used."""
        records = await read_compacted(self._kafka, TopicPartition(topics.VERIFY_STATE, partition))
        self._keys[partition] = set(records)
        return decode(records)

    async def roll_ups(self, partitions: int) -> list[int]:
        """Return the public id of each partition below which rows and roll-ups were seen to agree, 0 where never."""
        records = await read_compacted(self._kafka, TopicPartition(topics.VERIFY_STATE, 0))
        nothing = [0] * partitions
        try:
            if ROLL_UPS_KEY not in records:
                return nothing
            _check_format(records[ROLL_UPS_KEY])
            ids = _unpack_roll_ups(records[ROLL_UPS_KEY]).ids
        except (CheckpointError, msgspec.MsgspecError):
            return nothing
        return ids if len(ids) == partitions else nothing

    async def keep(self, books: Books, next_offset: int, topic_id: str | None) -> None:
        """Keep books whose last slice was taken. Raises CheckpointError where another run keeps its own."""
        head, chunks = encode(books, next_offset, topic_id)
        keys = [_chunk_key(number) for number in range(len(chunks))]
        outputs = [Output(key, chunk) for key, chunk in zip(keys, chunks, strict=True)]
        surplus = [key for key in self._keys[books.partition] if key[:1] == CHUNK and key not in keys]
        outputs += [Output(key, None) for key in surplus]
        outputs.append(Output(HEAD_KEY, _pack(head)))
        await self._commit(books.partition, outputs)
        self._keys[books.partition] = {*keys, HEAD_KEY}

    async def keep_roll_ups(self, ids: Iterable[int]) -> None:
        """Note that rows and roll-ups agree below these ids. Raises CheckpointError as `keep` does."""
        value = _pack(_RollUps(CHECKPOINTS.number, list(ids)))
        await self._commit(0, [Output(ROLL_UPS_KEY, value)])

    async def signed_through(self) -> int:
        """Return the last day of which all was seen to agree with what the notary signed, 0 where none was."""
        value = (await read_compacted(self._kafka, TopicPartition(topics.VERIFY_STATE, 0))).get(SIGNED_KEY)
        try:
            if value is None:
                return 0
            _check_format(value)
            return _unpack_signed(value).day
        except (CheckpointError, msgspec.MsgspecError):
            return 0

    async def keep_signed_through(self, day: int) -> None:
        """Note that all up to a day agrees with what was signed. Raises CheckpointError as `keep` does."""
        await self._commit(0, [Output(SIGNED_KEY, _pack(_SignedThrough(CHECKPOINTS.number, day)))])

    async def keep_run(self, ended_ms: int, differences: int, *, full: bool) -> None:
        """Note what this run came to. Raises CheckpointError as `keep` does."""
        await self._commit(0, [Output(RUN_KEY, encode_run(ended_ms, differences, full=full))])

    async def _commit(self, partition: int, outputs: list[Output]) -> None:
        try:
            if self._log is None:
                self._log = FencedLog(self._kafka, self._transactional_id, role="verify")
                await self._log.start()
            await self._log.commit({TopicPlace(topics.VERIFY_STATE, partition): outputs})
        except (KafkaError, TimeoutError) as error:
            raise CheckpointError(f"it is not kept, does another `verify` run? {error!r}") from None

    async def close(self) -> None:
        """Disconnect."""
        if self._log is not None:
            await self._log.close()


def of_another_journal(head: Head, position: int, topic_id: str | None) -> str | None:
    """Return why a checkpoint is of another journal than one that ends at a position; None where it is not."""
    if head.position > position:
        return f"it was made at position {head.position}, but the journal ends at {position - 1}"
    if head.topic_id is not None and topic_id is not None and head.topic_id != topic_id:
        return "the journal is another topic"
    return None

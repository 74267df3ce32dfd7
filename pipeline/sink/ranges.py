"""Ranges of the journal: how records become one, what its inserts are, and which of an old one are to be sent.

Owns: the recorded intent to write a range, and the rules about it. Pure.
Called by: `sink/protocol.py`.

ClickHouse drops an insert whose deduplication token it has seen, but only if it is the very same rows.
So the range is recorded before it is first sent, and after a crash exactly it is sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from itertools import groupby

import msgspec
from msgspec import Struct, structs

from pipeline.formats import RANGES
from pipeline.inserts import JournalInsert
from pipeline.journal import (
    JSON_ARRAYS,
    JSON_COLUMNS,
    LEDGER,
    NATIVE,
    REQUESTS,
    JournalRecord,
    decode_rows,
    encode_rows,
    public_id,
)

TABLES = {REQUESTS: "events", LEDGER: "ledger"}
RANGE_BYTES_MAX = 8 * 1024 * 1024
RANGE_RECORDS_MAX = 500
SMALL_ROWS = 10
"""Of fewer rows, a block costs the engine more than it costs to write them anew with its neighbours."""
FIRST_EPOCH = 1
"""The epoch of a database that was never made again."""
MONTHS_A_RANGE = 3
"""Into how many monthly blocks an insert is cut at most: its requests are up to 35 days apart."""


class RangePart(Struct, frozen=True, forbid_unknown_fields=True):
    """The rows of one kind within a range: positions `first` to `last`, and how many."""

    kind: str
    first: int
    last: int
    rows: int


class Intent(Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=RANGES.number):
    """A range about to be written: journal offsets from `first_offset` up to before `next_offset`.

    `topic_id` is Kafka's id of the journal, None where it has none. `deployment` says whose the range is, empty where a
    release before recorded it. `epoch` counts how often the database was made again: tokens of another epoch mean nothing.
    Without parts nothing is to be sent: it is a place that a rebuild leaves, and `position` the next one after it.
    """

    first_offset: int
    next_offset: int
    at_ms: int
    parts: tuple[RangePart, ...]
    topic_id: str | None = None
    deployment: str = ""
    epoch: int = FIRST_EPOCH
    position: int = 1


class RebuildHold(Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=RANGES.number):
    """Says that a rebuild has the partition, as `work` says since `at_ms`: no sink writes until it has ended.

    `epoch` is that of the database that is being made.
    """

    work: str
    at_ms: int
    epoch: int


class _SecondIntent(Struct, forbid_unknown_fields=True, tag_field="format", tag=2):
    """A range as it was recorded in format 2."""

    first_offset: int
    next_offset: int
    at_ms: int
    parts: tuple[RangePart, ...]
    topic_id: str | None = None


class _FirstIntent(Struct, forbid_unknown_fields=True):
    """A range as it was recorded in format 1, which may name no format."""

    first_offset: int
    next_offset: int
    at_ms: int
    parts: tuple[RangePart, ...]
    format: int = 1


class PartState(Enum):
    """How much of an old range's part is in its table and the roll-ups."""

    COMPLETE = auto()
    ABSENT = auto()
    INCOMPLETE = auto()


encode = msgspec.json.Encoder().encode
_decode_first = msgspec.json.Decoder(_FirstIntent).decode
_decode_second = msgspec.json.Decoder(_SecondIntent).decode


def _of_first(value: bytes) -> Intent:
    first = _decode_first(value)
    return Intent(first.first_offset, first.next_offset, first.at_ms, first.parts)


def _of_second(value: bytes) -> Intent:
    second = _decode_second(value)
    return Intent(second.first_offset, second.next_offset, second.at_ms, second.parts, second.topic_id)


_decode = RANGES.decoder(Intent, {1: _of_first, 2: _of_second})


def decode(value: bytes) -> Intent:
    """Return the intent of a state record.

    Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError where it is none.
    """
    return _decode(value)


decode_hold = RANGES.decoder(RebuildHold)
"""Return the hold of a state record; raises as `decode` does."""


def of_epoch(deployment: str, epoch: int) -> str:
    """Return what the tokens of an epoch begin with. Names of deployments have no dot, so none is another's."""
    return deployment if epoch == FIRST_EPOCH else f"{deployment}.{epoch}"


def cut(records: Sequence[tuple[int, JournalRecord]], at_ms: int, topic_id: str | None = None) -> Intent:
    """Return the intent for journal records of one format, given with their offsets, in order.

    The part that has the range's last row comes last: whoever finds that row in its table knows that all before it are there.
    """
    parts: dict[str, RangePart] = {}
    for _, record in records:
        rows = record.last - record.first + 1
        known = parts.get(record.kind)
        first, before = (known.first, known.rows) if known else (record.first, 0)
        parts[record.kind] = RangePart(record.kind, first, record.last, before + rows)
    in_order = tuple(sorted(parts.values(), key=lambda part: part.last))
    return Intent(records[0][0], records[-1][0] + 1, at_ms, in_order, topic_id)


def by_format(records: Sequence[tuple[int, JournalRecord]]) -> list[list[tuple[int, JournalRecord]]]:
    """Return journal records cut wherever their format changes: what is one insert has to be of one format."""
    return [list(same) for _, same in groupby(records, key=lambda placed: placed[1].format)]


def insert_of(
    deployment: str, partition: int, part: RangePart, records: Sequence[tuple[int, JournalRecord]]
) -> JournalInsert:
    """Return the insert of one part of a range, given the range's journal records with their offsets."""
    of_kind = _in_one_format([record for _, record in records if record.kind == part.kind])
    return JournalInsert(
        kind=part.kind,
        table=TABLES[part.kind],
        format=of_kind[0].format,
        columns=JSON_COLUMNS[part.kind],
        partition=partition,
        low=public_id(partition, part.first),
        high=public_id(partition, part.last),
        rows=part.rows,
        payload=b"".join(record.value for record in of_kind),
        token=token(deployment, partition, part),
    )


def _in_one_format(records: list[JournalRecord]) -> list[JournalRecord]:
    """Return the rows of a part as few blocks, or as the JSON arrays that they all are.

    Large blocks go as they are, unread. Small ones that follow each other are written anew as one: a block costs the
    engine half a millisecond, whatever is in it. A range of two formats was recorded by a release that knew none.
    """
    if all(record.format == JSON_ARRAYS for record in records):
        return records
    found: list[JournalRecord] = []
    for is_large, run in groupby(records, key=_is_large):
        same = list(run)
        if is_large or (len(same) == 1 and same[0].format == NATIVE):
            found += same
        else:
            found += encode_rows(same[0].kind, [row for record in same for row in decode_rows(record)])
    return found


def _is_large(record: JournalRecord) -> bool:
    return record.format == NATIVE and record.last - record.first + 1 >= SMALL_ROWS


def token(deployment: str, partition: int, part: RangePart) -> str:
    """Return the deduplication token of one part of a range: the same for ever, and for nothing else."""
    return f"{deployment}:{partition}:{part.kind}:{part.first}-{part.last}"


def safe_age_ms(window: int, inserts_a_second: float) -> int:
    """Return for how long a token is surely still in a deduplication window of `window` blocks.

    All sinks together make at most `inserts_a_second`, and each insert at most MONTHS_A_RANGE blocks.
    """
    return int(window / (inserts_a_second * MONTHS_A_RANGE) * 1000)


def is_old(intent: Intent, now_ms: int, safe_ms: int) -> bool:
    """Return whether an intent's tokens may be forgotten before it is sent.

    `safe_ms` is for how long they are surely remembered. Half of that is kept for the sending.
    """
    return now_ms - intent.at_ms > safe_ms / 2


def part_state(part: RangePart, found: int, *, roll_ups_lack: bool) -> PartState:
    """Return the state of an old intent's part of which `found` rows are in its table."""
    if found == 0:
        return PartState.ABSENT
    return PartState.COMPLETE if found == part.rows and not roll_ups_lack else PartState.INCOMPLETE


def left_of(intent: Intent, states: Mapping[RangePart, PartState], at_ms: int) -> Intent | None:
    """Return an old intent with only the parts that still have to be sent; None where there are none.

    A part that is there, or was completed, must not be recorded again: its token is forgotten.
    """
    parts = tuple(part for part in intent.parts if states[part] is PartState.ABSENT)
    return structs.replace(intent, parts=parts, at_ms=at_ms) if parts else None


def without_first(intent: Intent) -> Intent | None:
    """Return an intent without its first part, None where that was the only one."""
    return structs.replace(intent, parts=intent.parts[1:]) if intent.parts[1:] else None

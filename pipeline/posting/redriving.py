"""The redriver's protocol: charge dead letters that can be charged now, each once.

Owns: the decision for one letter, and the order of steps in which letters are redriven. Pure.
Called by: `operations/redrive.py`, which takes the steps with a real Kafka, and the simulation in
`tests/simulation`, which takes them with a model of one and ends at any of them.

A letter's mark and its copy on `metering.moved` are written in one fenced transaction, so a letter is
either redriven or not, and two operators cannot redrive it twice. The letter itself stays where it is.

Letters are kept for ever, so a run notes for each partition from where the next one reads: the first letter that waits
for its rate or its time. Below it are those that were redriven and those that only an operator's word can redrive; with
such a word all are read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, assert_never

from pipeline import topics
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import is_free
from pipeline.events import AHEAD_MS, LATE_MS, RequestEvent, Timestamps, decode_element
from pipeline.formats import MARKS
from pipeline.outcomes import DeadLetterReason
from pipeline.partitioning import partition_of
from pipeline.steps import Commit, Fence, Headers, Now, Output, Restore, Step, TopicPlace

T = TypeVar("T")

STATE_PLACE = TopicPlace(topics.REDRIVE_STATE, 0)
LETTERS_A_TRANSACTION = 1_000
_START = "from"
"""The first part of the key of a record that says from where a partition's letters are read: then come the partition and
the offset. The key has it, as the value is the format alone."""
_VALUE = str(MARKS.number).encode()

_timestamps = Timestamps()


@dataclass(frozen=True)
class Letter:
    """A dead letter: its place among those of its partition, its bytes, and the headers that say why it is one."""

    partition: int
    offset: int
    value: bytes
    headers: Headers

    @property
    def mark(self) -> bytes:
        """What the redriver's state knows the letter by."""
        return f"{self.partition}-{self.offset}".encode()


@dataclass(frozen=True)
class NextLetters(Step[Sequence[Letter] | None]):
    """Read some more of the dead letters there were at first; None when all have been read.

    `starts` has the offset from which those of a partition are read, by partition; 0 where there is none.
    """

    starts: Mapping[int, int]


RedriveStep: TypeAlias = Fence | Restore | Commit | Now | NextLetters
RedriveProtocol: TypeAlias = Generator[RedriveStep, Any, T]


@dataclass
class Redriven:
    """How many of the letters that were read were redriven now and earlier, and how many stay, by reason."""

    redriven: int = 0
    earlier: int = 0
    left: Counter[str] = field(default_factory=Counter)


def redrive(
    rates: RateTable,
    partitions: int,
    *,
    too_late: bool,
    leaps: bool = False,
    unsigned: bool = False,
    letters_max: int = LETTERS_A_TRANSACTION,
) -> RedriveProtocol[Redriven]:
    """Redrive all letters that can be charged now, `letters_max` a transaction; return how many those were.

    Raises NewerFormatError, before anything is redriven, where a newer release has marked letters.
    """
    # 1. From here on no other redriver writes, so what it had marked is all there is.
    yield from Fence()
    done = yield from Restore(STATE_PLACE)
    for mark in done.values():
        MARKS.check(int(mark))
    before = starts_of(done)
    starts = {} if too_late or leaps or unsigned else before
    report, after = Redriven(), _Starts()
    batch: list[tuple[Letter, RequestEvent]] = []
    while (letters := (yield from NextLetters(starts))) is not None:
        for letter in letters:
            # 2. Decide: a letter that was not redriven before and can be charged now.
            reason = dict(letter.headers).get("reason", b"").decode()
            now_ms = yield from Now()
            event = chargeable(
                letter.value, reason, rates, now_ms, too_late=too_late, leaps=leaps, unsigned=unsigned
            )
            is_done = letter.mark in done
            if is_done:
                report.earlier += 1
            elif event is None:
                report.left[reason] += 1
            else:
                batch.append((letter, event))
            after.note(letter, waits=not is_done and event is None and _waits(reason))
            # 3. Mark and publish some at a time, both in one transaction.
            if len(batch) == letters_max:
                yield from _publish(batch, partitions, report)
    yield from _publish(batch, partitions, report)
    # 4. Only now: what the next run passes over is marked.
    moved_on = after.records(before)
    if moved_on:
        yield from Commit({STATE_PLACE: moved_on})
    return report


class _Starts:
    """From where the letters of each partition are to be read next time, by what was read of them this time."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._waiting: dict[int, int] = {}

    def note(self, letter: Letter, *, waits: bool) -> None:
        """Note a letter that was read, after all before it; `waits` says that it may be redriven by itself some day."""
        self._ends[letter.partition] = letter.offset + 1
        if waits:
            self._waiting.setdefault(letter.partition, letter.offset)

    def records(self, before: Mapping[int, int]) -> list[Output]:
        """Return what is written where a partition's start is another than before: the new one, and the end of the old."""
        found: list[Output] = []
        for partition, end in self._ends.items():
            start, last = self._waiting.get(partition, end), before.get(partition, 0)
            if start != last:
                found.append(Output(start_key(partition, start), _VALUE))
                found += [Output(start_key(partition, last), None)] if last else []
        return found


def start_key(partition: int, offset: int) -> bytes:
    """Return the key of the record that says from where a partition's letters are read."""
    return f"{_START}-{partition}-{offset}".encode()


def start_of(key: bytes) -> tuple[int, int] | None:
    """Return the partition and offset of such a key, None for a letter's mark."""
    kind, _, place = key.decode().partition("-")
    if kind != _START:
        return None
    partition, _, offset = place.partition("-")
    return int(partition), int(offset)


def starts_of(keys: Iterable[bytes]) -> dict[int, int]:
    """Return from where letters are read, by partition; a copied cluster may have older records beside the newest."""
    starts: dict[int, int] = {}
    for partition, offset in filter(None, map(start_of, keys)):
        starts[partition] = max(offset, starts.get(partition, 0))
    return starts


def _publish(
    batch: list[tuple[Letter, RequestEvent]], partitions: int, report: Redriven
) -> RedriveProtocol[None]:
    if batch:
        yield from Commit(redriven_outputs(batch, partitions))
    report.redriven += len(batch)
    batch.clear()


def redriven_outputs(
    batch: Sequence[tuple[Letter, RequestEvent]], partitions: int
) -> dict[TopicPlace, list[Output]]:
    """Return what redriving letters writes: each one's mark, and its copy for the partition of its org."""
    outputs: dict[TopicPlace, list[Output]] = defaultdict(list)
    for letter, event in batch:
        copy = Output(None, letter.value, [*letter.headers, ("redriven", letter.mark)])
        outputs[STATE_PLACE].append(Output(letter.mark, _VALUE))
        outputs[TopicPlace(topics.MOVED, partition_of(event.subject, partitions))].append(copy)
    return outputs


def chargeable(
    value: bytes,
    reason: str,
    rates: RateTable,
    now_ms: int,
    *,
    too_late: bool,
    leaps: bool = False,
    unsigned: bool = False,
) -> RequestEvent | None:
    """Return the event of a dead letter that can be charged now, None for one that has to stay.

    An unpriced one can when its route has a rate for its time; one from the future when its time has come;
    one that came too late only when the operator says so, as nothing remembers whether it was charged
    before, and so one whose number leaps, or whose record its gateway did not sign, as another sender may have written it. An unsigned one over 35 days old needs both words. Malformed and invalid ones never can,
    nor a command, nor one whose reason only a newer worker knows.
    """
    named = DeadLetterReason.named(reason)
    if not _may_be_redriven(named, too_late=too_late, leaps=leaps, unsigned=unsigned):
        return None
    event = decode_element(value)
    if not isinstance(event, RequestEvent):
        return None
    at_ms = _timestamps.ms(event.time)
    if at_ms is None or at_ms > now_ms + AHEAD_MS:
        return None
    if named is DeadLetterReason.UNSIGNED and at_ms < now_ms - LATE_MS and not too_late:
        return None
    data = event.data
    if not is_free(data) and rates.in_force(data.model, data.provider or "", at_ms) is None:
        return None
    return event


def _waits(reason: str) -> bool:
    """Whether a letter that cannot be charged now may be some day, without an operator's word; by a newer release too."""
    named = DeadLetterReason.named(reason)
    return named is None or _may_be_redriven(named, too_late=False, leaps=False, unsigned=False)


def _may_be_redriven(reason: DeadLetterReason | None, *, too_late: bool, leaps: bool, unsigned: bool) -> bool:
    match reason:
        case DeadLetterReason.UNPRICED | DeadLetterReason.FROM_THE_FUTURE:
            return True
        case DeadLetterReason.TOO_LATE:
            return too_late
        case DeadLetterReason.LEAP:
            return leaps
        case DeadLetterReason.UNSIGNED:
            return unsigned
        case (
            DeadLetterReason.MALFORMED
            | DeadLetterReason.INVALID
            | DeadLetterReason.QUARANTINED
            | DeadLetterReason.UNAUTHENTICATED
            | None
        ):
            return False
    assert_never(reason)

"""The redriver's protocol: charge dead letters that can be charged now, each once.

Owns: the decision for one letter, and the order of steps in which letters are redriven. Pure.
Called by: `operations/redrive.py`, which takes the steps with a real Kafka, and the simulation in
`tests/simulation`, which takes them with a model of one and ends at any of them.

A letter's mark and its copy on `metering.moved` are written in one fenced transaction, so a letter is
either redriven or not, and two operators cannot redrive it twice. The letter itself stays where it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, assert_never

from pipeline import topics
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import is_free
from pipeline.events import AHEAD_MS, RequestEvent, Timestamps, decode_element
from pipeline.formats import MARKS
from pipeline.outcomes import DeadLetterReason
from pipeline.partitioning import partition_of
from pipeline.steps import Commit, Fence, Headers, Now, Output, Restore, Step, TopicPlace

T = TypeVar("T")

STATE_PLACE = TopicPlace(topics.REDRIVE_STATE, 0)
LETTERS_A_TRANSACTION = 1_000

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


class NextLetters(Step[Sequence[Letter] | None]):
    """Read some more of the dead letters there were at first; None when all have been read."""


RedriveStep: TypeAlias = Fence | Restore | Commit | Now | NextLetters
RedriveProtocol: TypeAlias = Generator[RedriveStep, Any, T]


@dataclass
class Redriven:
    """How many letters were redriven now and earlier, and how many stay, by reason."""

    redriven: int = 0
    earlier: int = 0
    left: Counter[str] = field(default_factory=Counter)


def redrive(
    rates: RateTable,
    partitions: int,
    *,
    too_late: bool,
    leaps: bool = False,
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
    report = Redriven()
    batch: list[tuple[Letter, RequestEvent]] = []
    while (letters := (yield from NextLetters())) is not None:
        for letter in letters:
            # 2. Decide: a letter that was not redriven before and can be charged now.
            reason = dict(letter.headers).get("reason", b"").decode()
            now_ms = yield from Now()
            event = chargeable(letter.value, reason, rates, now_ms, too_late=too_late, leaps=leaps)
            if letter.mark in done:
                report.earlier += 1
            elif event is None:
                report.left[reason] += 1
            else:
                batch.append((letter, event))
            # 3. Mark and publish some at a time, both in one transaction.
            if len(batch) == letters_max:
                yield from _publish(batch, partitions, report)
    yield from _publish(batch, partitions, report)
    return report


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
        outputs[STATE_PLACE].append(Output(letter.mark, str(MARKS.number).encode()))
        outputs[TopicPlace(topics.MOVED, partition_of(event.subject, partitions))].append(copy)
    return outputs


def chargeable(
    value: bytes, reason: str, rates: RateTable, now_ms: int, *, too_late: bool, leaps: bool = False
) -> RequestEvent | None:
    """Return the event of a dead letter that can be charged now, None for one that has to stay.

    An unpriced one can when its route has a rate for its time; one from the future when its time has come;
    one that came too late only when the operator says so, as nothing remembers whether it was charged
    before, and so one whose number leaps, as another sender may have written it. Malformed and invalid ones never can,
    nor a command, nor one whose reason only a newer worker knows.
    """
    if not _may_be_redriven(DeadLetterReason.named(reason), too_late=too_late, leaps=leaps):
        return None
    event = decode_element(value)
    if not isinstance(event, RequestEvent):
        return None
    at_ms = _timestamps.ms(event.time)
    if at_ms is None or at_ms > now_ms + AHEAD_MS:
        return None
    data = event.data
    if not is_free(data) and rates.in_force(data.model, data.provider or "", at_ms) is None:
        return None
    return event


def _may_be_redriven(reason: DeadLetterReason | None, *, too_late: bool, leaps: bool) -> bool:
    match reason:
        case DeadLetterReason.UNPRICED | DeadLetterReason.FROM_THE_FUTURE:
            return True
        case DeadLetterReason.TOO_LATE:
            return too_late
        case DeadLetterReason.LEAP:
            return leaps
        case (
            DeadLetterReason.MALFORMED
            | DeadLetterReason.INVALID
            | DeadLetterReason.QUARANTINED
            | DeadLetterReason.UNAUTHENTICATED
            | None
        ):
            return False
    assert_never(reason)

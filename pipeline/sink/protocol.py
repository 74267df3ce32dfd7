"""The sink's protocol: the order of steps that takes a partition over, writes a range, and puts lost rows back.

Owns: those orders, when an insert is sent again, and when an old range is counted before it is sent. Pure.
Called by: `sink/partition.py`, which takes the steps with a real Kafka and ClickHouse, and the simulation in
`tests/simulation`, which takes them with models of both and ends at any of them.
Next: `sink/ranges.py` has the rules for ranges.

ClickHouse drops an insert whose token it knows. So a range is recorded in Kafka before it is first sent, and
whoever finds it recorded sends exactly it again. Tokens are remembered for a while only: an older range is
counted in its tables first. And an engine that is killed may know the token of rows it has lost: those are
looked for after a range was sent more than once, and put back.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pipeline import topics
from pipeline.inserts import JournalInsert
from pipeline.journal import REQUESTS, JournalRecord
from pipeline.sink import ranges
from pipeline.sink.ranges import HalfThereError, Intent
from pipeline.steps import Commit, ConfirmOwner, Fence, Now, Output, Reached, Restore, Step, TopicPlace

T = TypeVar("T")

INTENT_KEY = b"intent"
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

Placed: TypeAlias = tuple[int, JournalRecord]
"""A journal record with its offset."""


class NotConfirmedError(Exception):
    """The engine refused or did not answer. What was asked may have been done, all, some or none of it."""


class IntentError(Exception):
    """A recorded range is half there and too old to be sent again safely."""


@dataclass(frozen=True)
class ReadJournal(Step[list[Placed]]):
    """Read the journal's committed records, which hold so many rows, from one offset up to before another."""

    first_offset: int
    next_offset: int
    rows: int


@dataclass(frozen=True)
class Insert(Step[None]):
    """Insert these rows under their token. Raises NotConfirmedError, as all steps from here on do."""

    rows: JournalInsert


@dataclass(frozen=True)
class CountRows(Step[int]):
    """Count how many of these rows are in their table."""

    rows: JournalInsert


@dataclass(frozen=True)
class MayHaveLost(Step[bool]):
    """Ask whether the engine may have been killed within the last so many seconds, and lost what it confirmed."""

    within_s: float


@dataclass(frozen=True)
class PrepareStaging(Step[str]):
    """Make the table by way of which rows are put back, and return its name."""

    rows: JournalInsert


@dataclass(frozen=True)
class PutBack(Step[int]):
    """Add those of these rows that are missing, by way of the staging table; return how many were.

    Refused where a later owner has dropped the staging table. The roll-ups are not fed.
    """

    rows: JournalInsert
    staging: str


@dataclass(frozen=True)
class CompleteRollUps(Step[int]):
    """Add what the roll-ups lack of the orgs and days of these rows; return how many rows that took."""

    rows: JournalInsert


@dataclass(frozen=True)
class Pause(Step[None]):
    """Wait before the engine is asked again: `seconds`, because of `problem`."""

    seconds: float
    problem: str


SinkStep: TypeAlias = (
    Fence
    | Restore
    | Commit
    | ConfirmOwner
    | Reached
    | Now
    | ReadJournal
    | Insert
    | CountRows
    | MayHaveLost
    | PrepareStaging
    | PutBack
    | CompleteRollUps
    | Pause
)
SinkProtocol: TypeAlias = Generator[SinkStep, Any, T]


class RangeWriter:
    """Writes the ranges of one partition's journal, one after the other."""

    def __init__(self, deployment: str, partition: int, safe_ms: int) -> None:
        """Prepare. `safe_ms` is for how long a token is surely remembered (`ranges.safe_age_ms`)."""
        self._deployment, self._partition = deployment, partition
        self._state = TopicPlace(topics.SINK_STATE, partition)
        self._safe_ms = safe_ms

    def take_over(self) -> SinkProtocol[int]:
        """Become the one owner of the partition and return the offset of the next record to write.

        Raises IntentError, and what the steps raise.
        """
        # 1. From here on no earlier owner records a range.
        yield from Fence()
        # 2. The last range that was recorded: its owner may have ended before, while or after it was written.
        state = yield from Restore(self._state)
        if INTENT_KEY not in state:
            return 0
        intent = ranges.decode(state[INTENT_KEY])
        # 3. It is finished, exactly as it was cut.
        yield from self.finish(intent)
        return next_offset_after(intent)

    def write(self, records: Sequence[Placed]) -> SinkProtocol[None]:
        """Write these records of the journal, which follow on the last range: one range, or one for each format."""
        for of_one_format in ranges.by_format(records):
            # 1. Cut the range, and record it: from here on it is this range or none.
            now_ms = yield from Now()
            intent = ranges.cut(of_one_format, now_ms)
            yield from self.record(intent)
            yield from Reached("sink.recorded")
            # 2. Write it, again and again until the answer is clear. The next range waits.
            yield from self.insert(intent, of_one_format)
            yield from Reached("sink.inserted")

    def record(self, intent: Intent) -> SinkProtocol[None]:
        """Record a range, durably. Refused to an owner that was fenced."""
        yield from Commit({self._state: [Output(INTENT_KEY, ranges.encode(intent))]})

    def finish(self, intent: Intent) -> SinkProtocol[None]:
        """Write a range that an earlier owner recorded, as far as it is not written."""
        records = yield from read_journal(intent)
        yield from self.insert(intent, records, sent_before=True)

    def insert(
        self, intent: Intent, records: Sequence[Placed], *, sent_before: bool = False
    ) -> SinkProtocol[None]:
        """Send a recorded range part by part, each until the engine confirms it.

        Where any of it was sent more than once, look in the end whether the engine has lost rows of it.
        """
        left: Intent | None = intent
        unconfirmed = 0
        while left is not None or sent_before:
            try:
                if left is None:
                    yield from self.put_back(intent, records)
                    return
                now_ms = yield from Now()
                if ranges.is_old(left, now_ms, self._safe_ms):
                    left = yield from self.absent_parts(left, records)
                else:
                    rows = ranges.insert_of(self._deployment, self._partition, left.parts[0], records)
                    yield from Insert(rows)
                    left = ranges.without_first(left)
            except NotConfirmedError as error:
                sent_before = True
                yield from Pause(RETRY_S[min(unconfirmed, len(RETRY_S) - 1)], str(error))
                unconfirmed += 1
            else:
                unconfirmed = 0

    def absent_parts(self, intent: Intent, records: Sequence[Placed]) -> SinkProtocol[Intent | None]:
        """Return what of an old range still has to be sent, recorded anew; None where all of it is there.

        The range may have been sent long ago, by an earlier owner or, if this one was stopped for long, by
        a later one; recording is refused to a stale owner. Raises IntentError where part of a part is there.
        """
        now_ms = yield from Now()
        found: dict[str, int] = {}
        for part in intent.parts:
            rows = ranges.insert_of(self._deployment, self._partition, part, records)
            found[part.kind] = yield from CountRows(rows)
        try:
            left = ranges.left_of(intent, found, now_ms)
        except HalfThereError:
            raise IntentError(
                f"partition {self._partition}: the range {intent.first_offset}-{intent.next_offset} recorded "
                f"at {intent.at_ms} is only partly in ClickHouse, and too old to be sent again: see "
                "docs/operations.md, «A sink range is half there»."
            ) from None
        if left is not None:
            yield from self.record(left)
        return left

    def put_back(self, intent: Intent, records: Sequence[Placed]) -> SinkProtocol[None]:
        """Add what an engine that was killed meanwhile has lost of a range that it has confirmed."""
        # 1. Only an engine that was started since the range was recorded can have lost any of it.
        now_ms = yield from Now()
        if not (yield from MayHaveLost((now_ms - intent.at_ms) / 1000)):
            return
        for part in intent.parts:
            # 2. Rows that are missing come back by way of a table of their own.
            rows = ranges.insert_of(self._deployment, self._partition, part, records)
            if (yield from CountRows(rows)) < part.rows:
                staging = yield from PrepareStaging(rows)
                # Refused where a later owner is there: it does this itself.
                yield from ConfirmOwner(self._state)
                yield from PutBack(rows, staging)
            # 3. Then the roll-ups are brought up to the rows.
            if part.kind == REQUESTS:
                yield from CompleteRollUps(rows)


def read_journal(intent: Intent) -> ReadJournal:
    """Return the step that reads a recorded range."""
    return ReadJournal(intent.first_offset, intent.next_offset, sum(part.rows for part in intent.parts))


def next_offset_after(intent: Intent) -> int:
    """Return the offset of the next record to write once a recorded range is finished."""
    return intent.next_offset

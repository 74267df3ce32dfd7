"""A day's journal folded into what is known of each org at its end. Pure.

Owns: when a day is closed, and that every row of it was taken once and in its place.
Called by: `notary/notary.py` reads the journal; `notary/kept.py` makes the day's tree of what was folded.

A day is that of posting, by IST. The time of posting never falls within a partition, so a partition is done with a day once
a row of a later day is there, or once its owner has posted up to a later instant and all its rows up to there were taken. A
day is closed once all partitions are done with it. What is posted in it is then known for good, and the same to everyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from pipeline import ist
from pipeline.journal import JournalRecord, Row, decode_rows, position_of
from pipeline.notary.chain import NOTHING, HashOfRate, OrgState, after


class NotaryError(Exception):
    """The journal is not what it was, or cannot be: nothing more is signed. The message says what and where."""


class PostedUpTo(Struct, frozen=True):
    """How far a partition's owner has posted: no later row is below `position`, or was posted before `posted_ms`."""

    position: int
    posted_ms: int


class ReadUpTo(Struct, frozen=True, array_like=True):
    """How far a partition of the journal was taken: the next position, and the offset of the record that may hold it."""

    position: int = 1
    offset: int = 0


@dataclass
class OpenDay:
    """A day that is being folded: what is known of each org, and how far each partition of the journal was taken."""

    day: int
    read: dict[int, ReadUpTo]
    states: dict[str, OrgState] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    """The partitions of which a row of a later day was seen."""

    def take(self, partition: int, record: JournalRecord, offset: int, hash_of_rate: HashOfRate) -> bool:
        """Take a record's rows up to the day's end; whether there may be more of the day in the records after it.

        Rows that were taken before are passed over. A record is taken whole or, where this raises, not at all: UnknownRateError
        where a rate is not known (yet), NotaryError, JournalFormatError.
        """
        position = self.read[partition].position
        if record.last < position:
            return True
        changed: dict[str, OrgState] = {}
        more, next_offset = True, offset + 1
        for row in decode_rows(record):
            at = position_of(row.id)
            if at[1] < position:
                continue
            if at != (partition, position):
                raise NotaryError(f"the journal's partition {partition} has {at} where {position} is due")
            day = ist.day_of(row.posted_ms)
            if day < self.day:
                raise NotaryError(f"row {row.id} was posted on {ist.date_of(day)}, which was closed before")
            if day > self.day:
                more, next_offset = False, offset
                self.done.add(partition)
                break
            before = changed.get(row.org) or self.states.get(row.org, NOTHING)
            changed[row.org] = after(before, row, hash_of_rate)
            position += 1
        self.states.update(changed)
        self.read[partition] = ReadUpTo(position, next_offset)
        return more

    def is_closed(self, posted: Mapping[int, PostedUpTo]) -> bool:
        """Whether nothing of the day can be posted any more, and all that was is taken."""
        end_ms = ist.day_end_ms(self.day)
        return all(
            partition in self.done
            or (
                (owner := posted.get(partition)) is not None
                and owner.posted_ms >= end_ms
                and read.position >= owner.position
            )
            for partition, read in self.read.items()
        )

    def next(self) -> OpenDay:
        """Return the day after, to go on with: of the same orgs, which it may add to and change."""
        return OpenDay(self.day + 1, dict(self.read), self.states)


def first_day(firsts: Mapping[int, Row | None], posted: Mapping[int, PostedUpTo]) -> int | None:
    """Return the day of the first row of all, given the first of each partition; None where there is none, or may be an earlier.

    Of a partition without rows its owner has to say that it has posted nothing up to after that day.
    """
    days = [ist.day_of(row.posted_ms) for row in firsts.values() if row is not None]
    if not days:
        return None
    for partition, row in firsts.items():
        owner = posted.get(partition)
        if row is None and (
            owner is None or owner.posted_ms < ist.day_end_ms(min(days)) or owner.position > 1
        ):
            return None
    return min(days)

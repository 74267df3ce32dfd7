"""The steps of the sink's protocol beyond those that all protocols have.

Owns: what each asks for, and what comes of it. Called by: `sink/protocol.py`, which takes them in their order, and whoever
carries them out: `sink/partition.py` and the simulation in `tests/simulation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.identity import DeploymentIdentity
from pipeline.inserts import DatabasePlace, JournalInsert
from pipeline.journal import JournalRecord
from pipeline.steps import (
    Commit,
    ConfirmOwner,
    Fence,
    LastHeaders,
    Now,
    Reached,
    Restore,
    Step,
    TopicIds,
)

Placed: TypeAlias = tuple[int, JournalRecord]
"""A journal record with its offset."""


class NotConfirmedError(Exception):
    """The engine refused or did not answer. What was asked may have been done, all, some or none of it."""

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        """Keep the engine's message, and whether it refused for certain: then only an operator mends it."""
        super().__init__(message)
        self.is_refusal = is_refusal


@dataclass(frozen=True)
class ReadJournal(Step[list[Placed]]):
    """Read the journal's committed records, which hold so many rows, from one offset up to before another."""

    first_offset: int
    next_offset: int
    rows: int


@dataclass(frozen=True)
class LookAtDatabase(Step[DatabasePlace]):
    """Ask whose the database is, and what it has around the positions `first` to `last` of the partition."""

    first: int
    last: int


@dataclass(frozen=True)
class AdoptDatabase(Step[None]):
    """Write into the database whose it is, in which epoch."""

    identity: DeploymentIdentity
    epoch: int


@dataclass(frozen=True)
class Insert(Step[None]):
    """Insert these rows under their token. Raises NotConfirmedError, as all steps from here on do."""

    rows: JournalInsert


@dataclass(frozen=True)
class CountRows(Step[int]):
    """Count how many of these rows are in their table."""

    rows: JournalInsert


@dataclass(frozen=True)
class RollUpsLack(Step[bool]):
    """Ask whether the roll-ups lack any of these rows, which are in their table and the newest of their partition."""

    rows: JournalInsert


@dataclass(frozen=True)
class MayHaveLost(Step[bool]):
    """Ask whether the engine may have been killed within the last so many seconds, and lost what it confirmed."""

    within_s: float


@dataclass(frozen=True)
class NothingIsUnderWay(Step[bool]):
    """Ask whether all that anybody ever sent to the engine of this partition has surely come to its end.

    So it is of an engine within this process that this process has sent nothing of the partition yet: what was sent
    before ended with the process that had the engine then. Of a server nobody knows.
    """


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
class FillRollUps(Step[int]):
    """Add what a roll-up that an upgrade has made lacks of the partition's rows up to a position, unless that was done before.

    Nothing of these rows may be under way; later ones may, of a later owner. Returns how many sums were added.
    """

    last: int


@dataclass(frozen=True)
class Pause(Step[None]):
    """Wait before the engine is asked again: `seconds`, because of `problem`, maybe a refusal for certain."""

    seconds: float
    problem: str
    is_refusal: bool = False


SinkStep: TypeAlias = (
    Fence
    | Restore
    | TopicIds
    | LastHeaders
    | LookAtDatabase
    | AdoptDatabase
    | Commit
    | ConfirmOwner
    | Reached
    | Now
    | ReadJournal
    | Insert
    | CountRows
    | RollUpsLack
    | MayHaveLost
    | NothingIsUnderWay
    | PrepareStaging
    | PutBack
    | CompleteRollUps
    | FillRollUps
    | Pause
)

"""Compare a signed day with what is there now: the rows of the journal, and those of the database. Pure.

Owns: which of the two is not what was signed, and of which org and row.
Called by: `operations/signed_days.py` for `metering verify`.

Both are folded from what was known at the end of the day before, and each org is compared with what the day's tree has of it.
Rows that differ between the two are noted, so that the row can be named; the hash tells which of the two was signed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pipeline.journal import Row
from pipeline.notary.chain import NOTHING, HashOfRate, OrgState, UnknownRateError, after

ROWS_NAMED_MAX = 5
JOURNAL, DATABASE = "journal", "database"


class SignedDayAudit:
    """What a day's rows come to, read from the journal and from the database."""

    def __init__(self, before: Mapping[str, OrgState], hash_of_rate: HashOfRate) -> None:
        """Begin with what was known of each org at the end of the day before."""
        self._folded = {JOURNAL: dict(before), DATABASE: dict(before)}
        self._hash_of_rate = hash_of_rate
        self._differing: dict[str, list[int]] = defaultdict(list)
        """By org: ids of rows that the two do not have alike."""

    def take(self, journal: Sequence[Row], database: Sequence[Row]) -> None:
        """Take the next rows, those of the same ids from both; each in the order of ids."""
        for place, rows in ((JOURNAL, journal), (DATABASE, database)):
            for row in rows:
                self._fold(place, row)
        if journal != database:
            there = {row.id: row for row in database}
            for row in journal:
                if there.pop(row.id, None) != row:
                    self._differing[row.org].append(row.id)
            for row in there.values():
                self._differing[row.org].append(row.id)

    def _fold(self, place: str, row: Row) -> None:
        states = self._folded[place]
        before = states.get(row.org, NOTHING)
        try:
            states[row.org] = after(before, row, self._hash_of_rate)
        except UnknownRateError:
            # It cannot be what was signed: the hash of nothing stands for it.
            states[row.org] = OrgState(before.rows + 1, before.balance_nano, bytes(len(before.hash)))
            self._differing[row.org].append(row.id)

    def differences(
        self, signed: Mapping[str, OrgState]
    ) -> Iterator[tuple[str, str, OrgState, OrgState, list[int]]]:
        """Yield what differs from the day's tree: place, org, what was signed, what is there, and the first rows known to be wrong."""
        for place, states in self._folded.items():
            for org in sorted(states.keys() | signed.keys()):
                due, found = signed.get(org, NOTHING), states.get(org, NOTHING)
                if due != found:
                    yield place, org, due, found, sorted(set(self._differing.get(org, ())))[:ROWS_NAMED_MAX]

"""Make a partition's state again: from the journal's rows, and from what is kept beside them.

Owns: the fold of rows into a state, and the order of steps of `metering rebuild state` for one partition. Pure.
Called by: `operations/rebuild_state.py`, which takes the steps with a real Kafka.
Next: `accounts/ledger.py` posts; `posting/beside_journal.py` says what rows do not tell.

A command that was ended leaves a record by which no worker takes the partition over; run again it begins anew. What comes
out differs from what was lost in four things that nothing depends on for money: which verdict gateways were told last (it
is told again), marks of records that were set aside and not met yet (set them aside again), of which two hundred and
fifty-six keys that nobody registered the use is kept, and the memory of duplicates. That holds the marks of the last 200,000
charged events whether they had numbers or not, so more than before.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pipeline import ist, topics
from pipeline.accounts.ledger import LedgerEntry, apply, charge
from pipeline.accounts.model import Account
from pipeline.identity import check_name, of_headers
from pipeline.journal import JournalRecord, RequestRow, decode_rows, position_of
from pipeline.outcomes import LedgerKind
from pipeline.posting import beside_journal
from pipeline.posting.duplicates import mark_of
from pipeline.posting.protocol import OWN_TOPICS, note_topics, state_against_journal
from pipeline.posting.state import (
    META_KEY,
    PROFILE,
    REBUILD_KEY,
    RING_SLOT,
    PartitionState,
    StateError,
    StateRecord,
)
from pipeline.steps import (
    NOTHING_ACCEPTED,
    AnotherTopicError,
    Commit,
    Fence,
    LastHeaders,
    Output,
    Reached,
    Restore,
    Step,
    TopicIds,
    TopicPlace,
)

T = TypeVar("T")
ACCOUNTS_DECODED_MAX = 10_000


class NextJournalRecords(Step[Sequence[JournalRecord] | None]):
    """Read some more of the partition's journal, from its beginning; None when all has been read."""


RebuildStep: TypeAlias = Fence | Restore | TopicIds | LastHeaders | Commit | Reached | NextJournalRecords
RebuildProtocol: TypeAlias = Generator[RebuildStep, Any, T]


@dataclass
class RebuiltState:
    """What became of the partitions' states: how many were made again from how many rows, and how many were whole."""

    made: int = 0
    whole: int = 0
    accounts: int = 0
    rows: int = 0


def rebuild(
    deployment: str, partition: int, partitions: int, report: RebuiltState, *, whole_too: bool
) -> RebuildProtocol[None]:
    """Make the state of a partition again, one that is whole only with `whole_too`, and add what was done to `report`.

    Raises StateError where the journal and what is kept beside it do not end with the same unit, MixedHistoriesError and
    AnotherTopicError as a take-over does, NewerFormatError, and what the steps raise.
    """
    place = TopicPlace(topics.STATE, partition)
    # 1. No worker writes any more.
    yield from Fence()
    records = yield from Restore(place)
    ids = yield from TopicIds(OWN_TOPICS)
    last = yield from LastHeaders(TopicPlace(topics.JOURNAL, partition))
    check_name(deployment, f"{topics.JOURNAL}/{partition}", of_headers(last))
    if not whole_too and _is_whole(partition, partitions, records, ids, last):
        report.whole += 1
        return
    kept = yield from Restore(TopicPlace(topics.BESIDE_JOURNAL, partition))
    rebuilding = Rebuilding(partition, partitions, kept)
    difference = state_against_journal(rebuilding.state, last)
    if difference is not None:
        raise StateError(difference.replace(topics.STATE, topics.BESIDE_JOURNAL))
    own = {name: found for name, found in ids.items() if name != topics.STATE}
    note_topics(rebuilding.state, own, NOTHING_ACCEPTED)
    # 2. From here on none starts on what is half made.
    yield from Commit({place: [Output(REBUILD_KEY, b"1")]})
    yield from Reached("state.held")
    # 3. Fold.
    while (journal := (yield from NextJournalRecords())) is not None:
        for record in journal:
            rebuilding.fold(record)
    rebuilding.state.meta.topic_ids.update(ids)
    made = rebuilding.finished()
    yield from Reached("state.folded")
    # 4. Write, some at a time; what is left of the old goes. The end of the hold comes last.
    gone = records.keys() - made.keys() - {META_KEY, REBUILD_KEY}
    outputs = [Output(key, made.get(key)) for key in (*sorted(gone), *made)]
    for part in beside_journal.in_parts(outputs):
        yield from Commit({place: part})
        yield from Reached("state.writing")
    yield from Commit({place: [Output(*rebuilding.state.save_meta()), Output(REBUILD_KEY, None)]})
    yield from Reached("state.made")
    report.made += 1
    report.accounts += len(rebuilding.state)
    report.rows += rebuilding.rows


def _is_whole(
    partition: int,
    partitions: int,
    records: Mapping[bytes, bytes],
    ids: Mapping[str, str],
    last: Sequence[tuple[str, bytes]] | None,
) -> bool:
    """Whether a worker would take the partition over as it is."""
    try:
        state = PartitionState.restored(partition, partitions, dict(records))
        note_topics(state, ids, NOTHING_ACCEPTED)
    except (StateError, AnotherTopicError):
        return False
    return state_against_journal(state, last) is None


class Rebuilding:
    """A state that is being folded from the journal's rows."""

    def __init__(self, partition: int, partitions: int, kept: Mapping[bytes, bytes]) -> None:
        """Begin with what is kept beside the journal. Raises StateError where nothing is, or by other partitions."""
        if META_KEY not in kept:
            raise StateError(
                f"partition {partition}: {topics.BESIDE_JOURNAL} has nothing of it. It is written from the first start of a "
                "worker of this release on; without it the state cannot be made again."
            )
        self._kept = {key: value for key, value in kept.items() if key[:1] in beside_journal.KINDS}
        self._alerts = beside_journal.alert_marks(kept)
        meta = {META_KEY: kept[META_KEY]}
        self.state = PartitionState.restored(partition, partitions, {**self._kept, **meta})
        self.rows = 0
        self._next_position = 1
        self._accounts: dict[str, Account] = {}

    def fold(self, record: JournalRecord) -> None:
        """Take in a record of the journal. Raises StateError where it does not follow on the one before."""
        for row in decode_rows(record):
            _, position = position_of(row.id)
            if position != self._next_position:
                raise StateError(
                    f"partition {self.state.partition}: {topics.JOURNAL} has position {position} where "
                    f"{self._next_position} should be; nothing can be made of it"
                )
            self._next_position = position + 1
            account = self._account(row.org)
            if isinstance(row, RequestRow):
                day = ist.day_of(row.at_ms)
                charge(account, row.key_id, trial=row.tier == "trial", day=day, cost_nano=row.cost_nano)
                self.state.ring.add(mark_of(row.source, row.event_id))
            else:
                apply(account.spending, LedgerEntry(LedgerKind(row.kind), row.amount_nano))
                account.spending.entry_id = row.id
            self.rows += 1

    def finished(self) -> dict[bytes, bytes]:
        """Return the records of the state topic but that of `m`, once all rows are folded."""
        for org, (is_below, alerted_ms) in self._alerts.items():
            spending = self._account(org).spending
            spending.is_below, spending.alerted_ms = bool(is_below), alerted_ms
        for key in self._kept:
            if key[:1] == PROFILE:
                self._account(key[1:].decode())
        self._lay_to_rest()
        made = dict(self._kept)
        made |= _values(self.state.save_spending(self.state.account(org)) for org in self.state.orgs())
        slots = self.state.ring.take_changes()
        return made | {RING_SLOT + slot.to_bytes(2): value for slot, value in slots}

    def _account(self, org: str) -> Account:
        account = self._accounts.get(org)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_DECODED_MAX:
                self._lay_to_rest()
            account = self._accounts[org] = self.state.account(org)
        return account

    def _lay_to_rest(self) -> None:
        for account in self._accounts.values():
            # What follows from the profile is made of the profile as it is at the end.
            account.spending.watched = None
            self.state.save_spending(account)
        self._accounts.clear()


def _values(records: Iterator[StateRecord]) -> dict[bytes, bytes]:
    return {key: value for key, value in records if value is not None}

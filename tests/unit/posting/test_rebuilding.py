"""A lost state is made again from the journal and what is kept beside it, whatever step the command was ended at."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from pipeline import topics
from pipeline.accounts.commands import CreateKey, Credit, SetThreshold, SignUp
from pipeline.identity import DeploymentIdentity, MixedHistoriesError
from pipeline.posting import beside_journal
from pipeline.posting.protocol import WorkerStep, take_over
from pipeline.posting.rebuilding import NextJournalRecords, Rebuilding, RebuildStep, RebuiltState, rebuild
from pipeline.posting.state import PartitionState, StateError
from pipeline.steps import (
    AnotherTopicError,
    Commit,
    LastHeaders,
    Output,
    Reached,
    Restore,
    TopicIds,
    TopicPlace,
)
from tests.support import scripted
from tests.support.builders import NOW_MS, Books, event, everything, packed

OURS = DeploymentIdentity("metering", "a" * 32)
STATE, BESIDE = TopicPlace(topics.STATE, 0), TopicPlace(topics.BESIDE_JOURNAL, 0)


class EndedError(Exception):
    """Where the command was ended."""


class Topics:
    """What a partition's topics hold: compacted ones by key, the journal whole, and Kafka's ids of them."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.held = {STATE: dict(books.topic), BESIDE: dict(books.beside)}
        self.last: dict[TopicPlace, list[tuple[str, bytes]]] = {}
        self.ids = dict.fromkeys((*topics.INPUTS, topics.JOURNAL, topics.STATE), "a" * 32)
        self.ended_at = ""
        self._unread = [books.journal[:1], books.journal[1:]]

    def answer(self, step: RebuildStep | WorkerStep) -> object:
        """Take a step of a take-over or of the command."""
        match step:
            case Restore(place):
                return dict(self.held[place])
            case TopicIds():
                return self.ids
            case LastHeaders(place) if place.topic == topics.JOURNAL:
                journal = self.books.journal
                return [*journal[-1].headers(), OURS.header()] if journal else None
            case LastHeaders(place):
                return self.last.get(place)
            case NextJournalRecords():
                return self._unread.pop(0) if self._unread else None
            case Commit(outputs):
                for place, written in outputs.items():
                    self.write(place, written)
            case Reached(point) if point == self.ended_at:
                raise EndedError(self.ended_at)
        return None

    def write(self, place: TopicPlace, written: Sequence[Output]) -> None:
        """Write records as a transaction does."""
        for output in written:
            assert output.key is not None
            if output.value is None:
                self.held[place].pop(output.key, None)
            else:
                self.held[place][output.key] = output.value
            self.last[place] = list(output.headers)

    def rebuild(self, *, whole_too: bool = False, ended_at: str = "") -> RebuiltState:
        """Run the command for the partition."""
        self._unread, self.ended_at = [self.books.journal[:1], self.books.journal[1:]], ended_at
        report = RebuiltState()
        scripted.run(rebuild("metering", 0, 1, report, whole_too=whole_too), self.answer)
        return report

    def taken_over(self) -> PartitionState:
        """Take the partition over."""
        self.ended_at = ""
        return scripted.run(take_over("metering", 0, 1), self.answer)[0]


def _books() -> Books:
    """Return the books of an org that has signed up, was credited, has a key, was charged, and had an alert."""
    books = Books()
    books.send(
        SignUp("s", "org_1", "Acme", "a@acme.example"),
        CreateKey("k", "org_1", "key_1", "key", "br-", "00" * 32, budget_nano=10**12),
        Credit("c", "org_1", 5 * 10**9, "r"),
        SetThreshold("t", "org_1", 10**12),
    )
    books.publish(packed(event("e1", sequence="07")), packed(event("e2")))
    books.publish(packed(event("e3", data__model="newcomer", sequence="08")), at_ms=NOW_MS + 1)
    return books


@pytest.fixture
def there() -> Topics:
    """The topics of a partition that a worker has, which has just taken it over and so keeps all beside the journal."""
    there = Topics(_books())
    there.taken_over()
    there.books.state = PartitionState.restored(0, 1, dict(there.held[STATE]))
    return there


def _money(state: PartitionState) -> object:
    """Return all that a state holds but what gateways were told last, and the memory of duplicates."""
    found = dict(everything(state))
    accounts = {org: state.account(org) for org in state.orgs()}
    for account in accounts.values():
        account.spending.verdict_nano, account.spending.verdict_refused = None, ()
    kept = {name: found[name] for name in ("meta", "last", "seen", "money", "answers", "unpriced")}
    return kept | {"accounts": accounts, "identities": state.identities}


def test_all_of_it_comes_back_and_what_was_charged_is_a_duplicate(there: Topics) -> None:
    lost = there.taken_over()
    assert lost.account("org_1").spending.alerted_ms
    there.held[STATE].clear()
    there.ids[topics.STATE] = "b" * 32
    assert there.rebuild() == RebuiltState(made=1, accounts=1, rows=4)
    made = there.taken_over()
    assert made.meta.topic_ids[topics.STATE] == "b" * 32
    made.meta.topic_ids[topics.STATE] = "a" * 32
    assert _money(made) == _money(lost)

    there.books.state = made
    again = there.books.publish(packed(event("e1", sequence="07")), packed(event("e2")))
    assert again.counts["duplicates"] == 2
    moved = there.books.publish(packed(event("e1", sequence="07")), topic=topics.MOVED)
    assert moved.counts["duplicates"] == 1


@pytest.mark.parametrize("ended_at", ["state.held", "state.folded", "state.writing", "state.made"])
def test_ended_anywhere_no_worker_starts_on_it_and_it_is_run_again(there: Topics, ended_at: str) -> None:
    lost = _money(there.taken_over())
    # A damaged one: an account is gone, and what is left is of an older unit.
    there.held[STATE] = {b"borg_2": b"rubbish", b"zrubbish": b""}
    with pytest.raises(EndedError):
        there.rebuild(ended_at=ended_at)
    if ended_at != "state.made":
        with pytest.raises(StateError, match="Run it again"):
            there.taken_over()
    there.rebuild()
    assert _money(there.taken_over()) == lost


def test_a_state_that_is_whole_is_left_alone_unless_it_is_asked_for(there: Topics) -> None:
    before = dict(there.held[STATE])
    assert there.rebuild() == RebuiltState(whole=1)
    assert there.held[STATE] == before
    assert there.rebuild(whole_too=True).made == 1


def test_a_topic_made_anew_under_a_worker_is_not_whole_though_it_ends_with_the_journal(there: Topics) -> None:
    there.ids[topics.STATE] = "b" * 32
    assert there.rebuild().made == 1


def test_nothing_is_made_of_what_does_not_end_together(there: Topics) -> None:
    there.held[STATE].clear()
    there.books.journal.append(structs.replace(there.books.journal[-1], first=9, last=9))
    with pytest.raises(StateError, match="the state topic lost records"):
        there.rebuild()
    assert there.held[STATE] == {}


def test_nothing_is_made_where_nothing_is_kept_or_of_another_deployment(there: Topics) -> None:
    there.held[STATE].clear()
    there.ids[topics.BILLING] = "c" * 32
    with pytest.raises(AnotherTopicError):
        there.rebuild()
    there.held[BESIDE].clear()
    with pytest.raises(StateError, match="beside-journal has nothing of it"):
        there.rebuild()
    with pytest.raises(MixedHistoriesError):
        scripted.run(rebuild("other", 0, 1, RebuiltState(), whole_too=False), there.answer)
    assert there.held[STATE] == {}


def test_a_journal_with_a_gap_is_refused() -> None:
    books = _books()
    rebuilding = Rebuilding(0, 1, books.beside)
    with pytest.raises(StateError, match="has position 3 where 1 should be"):
        rebuilding.fold(books.journal[-1])


def test_all_is_kept_again_after_an_owner_that_did_not_know_of_it(there: Topics) -> None:
    """It has changed an account, and let go of a source: what is kept is of before."""
    stale, mark = beside_journal.alert_record("org_gone", (1, 5))
    assert mark is not None
    there.held[BESIDE] |= {b"ngone": b"x", stale: mark}
    there.books.send(Credit("c2", "org_1", 10**9, "r"))
    there.held[STATE] = dict(there.books.topic)
    lost = _money(there.taken_over())
    assert not {b"ngone", stale} & there.held[BESIDE].keys()
    there.held[STATE].clear()
    there.rebuild()
    assert _money(there.taken_over()) == lost


def test_a_take_over_that_finds_all_kept_writes_nothing(there: Topics) -> None:
    _, steps = scripted.run(take_over("metering", 0, 1), there.answer)
    assert not [step for step in steps if isinstance(step, Commit)]


def test_what_is_kept_in_part_is_not_complete(there: Topics) -> None:
    parts = list(beside_journal.whole(there.taken_over(), there.held[STATE], ()))
    assert len(parts) > 1
    for part in parts[:-1]:
        there.write(BESIDE, part)
        assert not beside_journal.is_complete(there.taken_over(), list(part[-1].headers))

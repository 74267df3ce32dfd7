"""The journal folded again agrees with the state, and any tampering shows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from pipeline.accounts.commands import Credit, SignUp
from pipeline.accounts.model import Account
from pipeline.journal import JSON_ARRAYS, JournalRecord
from pipeline.operations.audit import Books as Folded
from pipeline.operations.audit import Difference, compare_accounts, compare_groups
from tests.support.builders import COST_NANO, Books, event, packed, rate
from tests.support.journal_rows import in_format

RATE = rate()
RATES = {(RATE.model, RATE.provider, RATE.from_ms): RATE}


def _posted() -> tuple[Books, list[JournalRecord]]:
    books = Books()
    journal = list(books.send(SignUp("c1", "org_1", "Acme", "a@acme.in")).journal)
    journal += books.publish(
        packed(*(event(f"e{n}") for n in range(3))), packed(event("f", data__status=500))
    ).journal
    journal += books.send(Credit("c2", "org_1", -5, "a correction")).journal
    return books, journal


def _fold(journal: Sequence[JournalRecord], stored: dict[str, Account]) -> Folded:
    folded = Folded(0, rates=RATES)
    for record in journal:
        folded.fold(record, stored)
    return folded


def _stored(books: Books) -> dict[str, Account]:
    state = books.restore()
    return {org: state.account(org) for org in state.orgs()}


def _differences(folded: Folded, stored: dict[str, Account]) -> list[Difference]:
    return [*folded.differences, *compare_accounts(folded, stored)]


def test_the_journal_comes_to_the_state() -> None:
    books, journal = _posted()
    folded = _fold(journal, _stored(books))
    assert _differences(folded, _stored(books)) == []
    assert folded.request_rows == 4
    assert folded.ledger_rows == 2
    (sums,) = folded.part.groups.values()
    assert sums[:2] == [4, 1]
    assert sums[6] == 3 * COST_NANO


@pytest.mark.parametrize("field", ["credited_nano", "debited_nano", "entry_id"])
def test_a_changed_balance_shows(field: str) -> None:
    books, journal = _posted()
    stored = _stored(books)
    spending = stored["org_1"].spending
    setattr(spending, field, getattr(spending, field) + 1)
    assert any(d.of == "org_1" for d in _differences(_fold(journal, stored), stored))


def test_a_lost_a_doubled_and_a_changed_record_show() -> None:
    books, journal = _posted()
    stored = _stored(books)
    assert _differences(_fold(journal[:-1], stored), stored)
    assert _differences(_fold([*journal, journal[-1]], stored), stored)
    paid, less = COST_NANO.to_bytes(8, "little"), (COST_NANO - 1).to_bytes(8, "little")
    cheaper = journal[1].value.replace(paid, less, 1)
    tampered = [journal[0], structs.replace(journal[1], value=cheaper), journal[2]]
    places = {d.place for d in _differences(_fold(tampered, stored), stored)}
    assert "cost by its rate" in places
    assert "state debited_nano" in places


def test_a_journal_that_an_older_release_began_comes_to_the_state_too() -> None:
    books, journal = _posted()
    older = [in_format(JSON_ARRAYS, record) for record in journal[:2]]
    folded = _fold([*older, *journal[2:]], _stored(books))
    assert _differences(folded, _stored(books)) == []
    assert (folded.request_rows, folded.ledger_rows) == (4, 2)


def test_sums_by_group_are_compared_both_ways() -> None:
    one, other = ("o", "d", "m", "k", "p", False, "standard"), ("o", "d", "m", "k", "q", False, "standard")
    assert list(compare_groups("rows", {one: (1, 0, 1, 0, 1, 5)}, {one: (1, 0, 1, 0, 1, 5)})) == []
    assert len(list(compare_groups("rows", {one: (1, 0, 1, 0, 1, 5)}, {other: (1, 0, 1, 0, 1, 5)}))) == 2

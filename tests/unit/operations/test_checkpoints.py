"""Books that go on from a checkpoint come to what they come to from the beginning, and any tampering shows."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from pipeline.accounts.commands import Credit, SignUp
from pipeline.accounts.model import Account
from pipeline.formats import CHECKPOINTS
from pipeline.journal import JournalRecord
from pipeline.operations import checkpoints
from pipeline.operations.audit import Books as Folded
from pipeline.operations.audit import Rates, compare_accounts
from pipeline.operations.checkpoints import CHUNK, HEAD_KEY, Checkpoint, CheckpointError, of_another_journal
from tests.support.builders import Books, event, packed, rate

RATE = rate()
RATES: Rates = {(RATE.model, RATE.provider, RATE.from_ms): RATE}


def _posted() -> tuple[Books, list[JournalRecord], list[JournalRecord]]:
    books = Books()
    before = list(books.send(SignUp("c1", "org_1", "Acme", "a@acme.in")).journal)
    before += books.publish(packed(*(event(f"e{n}") for n in range(3)))).journal
    after = list(books.publish(packed(event("e9"), event("f", data__status=500))).journal)
    after += books.send(Credit("c2", "org_1", -5, "a correction")).journal
    return books, before, after


def _stored(books: Books) -> dict[str, Account]:
    state = books.restore()
    return {org: state.account(org) for org in state.orgs()}


def _folded(journal: list[JournalRecord], stored: dict[str, Account], into: Folded | None = None) -> Folded:
    folded = into or Folded(0, rates=RATES)
    for record in journal:
        folded.fold(record, stored)
    folded.take_slice()
    return folded


def _records(folded: Folded) -> dict[bytes, bytes]:
    folded.paid["pay_1"] = [1, 5 * 10**19, -(10**19)]
    folded.redeemed["org_1", "TRY"] = 1
    head, chunks = checkpoints.encode(folded, 7, "id")
    keys = (CHUNK + number.to_bytes(4) for number in range(len(chunks)))
    return {HEAD_KEY: msgspec.msgpack.encode(head), **dict(zip(keys, chunks, strict=True))}


def _read(records: dict[bytes, bytes]) -> Checkpoint:
    checkpoint = checkpoints.decode(records)
    assert checkpoint is not None
    return checkpoint


def test_books_that_go_on_from_a_checkpoint_are_those_read_from_the_beginning() -> None:
    books, before, after = _posted()
    stored = _stored(books)
    checkpoint = _read(_records(_folded(before, stored)))
    assert (checkpoint.head.position, checkpoint.head.next_offset, checkpoint.head.topic_id) == (5, 7, "id")
    going_on = _folded(after, stored, checkpoint.books(RATES))
    whole = _folded([*before, *after], stored)
    assert going_on.differences == [] and list(compare_accounts(going_on, stored)) == []
    assert (going_on.chain, going_on.days) == (whole.chain, whole.days)
    assert (going_on.request_rows, going_on.ledger_rows) == (5, 2)
    assert going_on.spending("org_1") == whole.spending("org_1")
    assert going_on.paid["pay_1"] == [1, 5 * 10**19, -(10**19)]


def test_a_slice_holds_what_came_since_the_last_one() -> None:
    books, before, after = _posted()
    folded = _folded(before, _stored(books))
    for record in after:
        folded.fold(record, _stored(books))
    part = folded.take_slice()
    assert (part.first, part.below, part.request_rows, part.ledger_rows, part.ledger_nano) == (5, 8, 2, 1, -5)
    assert sum(sums[0] for sums in part.groups.values()) == 2


def test_a_checkpoint_that_was_changed_or_is_of_another_format_is_not_gone_on_from() -> None:
    books, before, _ = _posted()
    records = _records(_folded(before, _stored(books)))
    assert checkpoints.decode({}) is None
    (chunk,) = (
        key
        for key in records
        if key[:1] == CHUNK and b"org_1" in records[key] and b"pay_1" not in records[key]
    )
    with pytest.raises(CheckpointError, match="changed"):
        checkpoints.decode({**records, chunk: records[chunk].replace(b"org_1", b"org_2")})
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.decode({key: value for key, value in records.items() if key != chunk})
    head = checkpoints.decode(records)
    assert head is not None
    for changes in ({"format": CHECKPOINTS.number + 1}, {"state_format": 1}):
        changed = msgspec.msgpack.encode(structs.replace(head.head, **changes))
        with pytest.raises(CheckpointError, match="format"):
            checkpoints.decode({**records, HEAD_KEY: changed})


def test_a_checkpoint_written_by_hand_and_a_journal_changed_below_it_show_when_all_is_read() -> None:
    books, before, _ = _posted()
    stored = _stored(books)
    checkpoint = _read(_records(_folded(before, stored)))
    assert checkpoint.differs_from(_with_payment(_folded(before, stored))) is None
    forged = _folded(before, stored)
    forged.accounts["org_1"] = Account("org_1", forged.spending("org_1"))
    forged.accounts["org_1"].spending.credited_nano += 1
    forged.take_slice()
    assert checkpoint.differs_from(_with_payment(forged)) == "the account org_1"
    assert checkpoint.differs_from(_folded(before[:1], stored)) == "the journal"


def _with_payment(folded: Folded) -> Folded:
    folded.paid["pay_1"] = [1, 5 * 10**19, -(10**19)]
    folded.redeemed["org_1", "TRY"] = 1
    return folded


def test_a_checkpoint_of_another_journal_is_told() -> None:
    books, before, _ = _posted()
    head = _read(_records(_folded(before, _stored(books)))).head
    assert of_another_journal(head, 5, "id") is None
    assert of_another_journal(head, 5, None) is None
    assert "ends at 3" in (of_another_journal(head, 4, "id") or "")
    assert "another topic" in (of_another_journal(head, 5, "other") or "")

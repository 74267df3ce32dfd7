"""One unit of work: which records are fresh, and how it is closed."""

from __future__ import annotations

import pytest
from msgspec.structs import astuple

from pipeline.accounts import verdicts
from pipeline.accounts.commands import CreateKey, Credit, SignUp
from pipeline.accounts.verdicts import Verdict, VerdictProgress
from pipeline.posting.state import META_KEY, PartitionState
from pipeline.posting.unit import Unit, close, fresh
from pipeline.topics import BILLING, MOVED, REQUESTS
from tests.support.builders import COST_NANO, Books, Record, event, packed, rate_table
from tests.support.journal_rows import ledger_row, request


def offsets(records: list[Record]) -> list[int]:
    """Return the records' offsets."""
    return [record.offset for record in records]


class TestFresh:
    def test_records_below_the_mark_are_skipped(self) -> None:
        state = PartitionState(0, 1)
        records = [Record(offset=n) for n in range(4)]
        assert offsets(fresh(state, records[:3])) == [0, 1, 2]
        assert offsets(fresh(state, records)) == [3]
        assert fresh(state, records) == []
        assert state.meta.offsets == {REQUESTS: 4}

    @pytest.mark.parametrize("topic", [REQUESTS, BILLING, MOVED])
    @pytest.mark.parametrize("numbers", [[1], [0, 2], [3, 5, 9]])
    def test_offsets_that_transactions_took_are_passed_over(self, topic: str, numbers: list[int]) -> None:
        state = PartitionState(0, 1)
        records = [Record(topic, offset=n) for n in numbers]
        assert offsets(fresh(state, records)) == numbers
        assert state.meta.offsets == {topic: numbers[-1] + 1}

    def test_topics_have_marks_of_their_own(self) -> None:
        state = PartitionState(0, 1)
        fresh(
            state,
            [Record(REQUESTS, offset=0), Record(BILLING, offset=0), Record(REQUESTS, offset=1)],
        )
        assert state.meta.offsets == {REQUESTS: 2, BILLING: 1}

    def test_records_delivered_again_change_nothing(self) -> None:
        books = Books()
        records = [books.record(REQUESTS, packed(event(str(n)))) for n in range(3)]
        books.post(records)
        before = dict(books.topic)
        outcome = books.post(records)
        assert outcome.journal == []
        assert books.topic == before


class TestClosing:
    def test_each_changed_account_is_saved_once_and_the_mark_last(self) -> None:
        books = Books()
        outcome = books.publish(*(packed(event(str(n), subject=f"org_{n % 2}")) for n in range(6)))
        keys = [key for key, _ in outcome.state]
        assert sorted(k for k in keys if k[:1] == b"b") == [b"borg_0", b"borg_1"]
        assert keys[-1] == META_KEY
        assert not [k for k in keys if k[:1] == b"p"]

    def test_gateways_hear_of_each_org_once_and_of_the_progress_last(self) -> None:
        books = Books()
        outcome = books.publish(packed(event("a"), event("b")), packed(event("c", subject="org_2")))
        told = [verdicts.decode_record(key, value) for key, value in outcome.verdicts]
        assert told == [
            Verdict("org_1", -2 * COST_NANO, ()),
            Verdict("org_2", -COST_NANO, ()),
            VerdictProgress(0, 2),
        ]

    def test_what_was_told_is_saved_with_the_account(self) -> None:
        books = Books()
        books.publish(packed(event()))
        assert books.restore().account("org_1").spending.verdict_nano == -COST_NANO

    def test_a_unit_of_commands_tells_balances_keys_and_replies(self) -> None:
        outcome = Books().send(
            SignUp(id="1", org="org_1", name="A", email="a@example.in"),
            CreateKey(id="2", org="org_1", key_id="k", name="n", prefix="p", hash="h"),
            Credit(id="3", org="org_1", amount_nano=5, reason="r"),
        )
        assert [record.kind for record in outcome.journal] == ["ledger"]
        assert [key for key, _ in outcome.keys] == [b"k"]
        assert len(outcome.replies) == 3
        told = [verdicts.decode_record(key, value) for key, value in outcome.verdicts]
        assert told == [Verdict("org_1", 100_000_000_005, ()), VerdictProgress(0, 0)]

    def test_a_unit_without_effect_still_moves_the_mark(self) -> None:
        outcome = Books().publish(b"[]")
        assert (outcome.journal, outcome.offsets) == ([], {REQUESTS: 1})
        assert [key for key, _ in outcome.state] == [META_KEY]

    def test_journal_records_are_in_the_order_of_their_positions(self) -> None:
        unit = Unit(PartitionState(0, 1), rate_table())
        unit.requests.append(astuple(request(3 * 1024, "org_1", 1)))
        unit.ledger.append(ledger_row(2 * 1024, "org_1", 5, 5))
        assert [(r.kind, r.first) for r in close(unit).journal] == [("ledger", 2), ("requests", 3)]

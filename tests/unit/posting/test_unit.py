"""One unit of work: which records are fresh, and how it is closed."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import astuple

from pipeline.accounts import verdicts
from pipeline.accounts.commands import CreateKey, Credit, SignUp
from pipeline.accounts.commands import encode as encode_command
from pipeline.accounts.verdicts import Verdict, VerdictProgress
from pipeline.partitioning import partition_of
from pipeline.posting import requests
from pipeline.posting import unit as posting_unit
from pipeline.posting.state import META_KEY, PartitionState
from pipeline.posting.unit import CUT_LETTER_BYTES, LETTER_BYTES_MAX, Unit, close, fresh
from pipeline.topics import BILLING, MOVED, REQUESTS
from tests.support.builders import COST_NANO, Books, Record, event, everything, packed, rate_table, reasons
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


class TestBounds:
    """What comes in may be small and what goes out large."""

    def test_a_dead_letter_up_to_the_bound_is_whole_and_a_larger_one_is_cut(self) -> None:
        whole, larger = b"x" * LETTER_BYTES_MAX, b"y" * (LETTER_BYTES_MAX + 1)
        first, second = Books().publish(whole, larger).dead_letters
        assert first.value == whole
        assert "cut_from_bytes" not in dict(first.headers)
        assert second.value == b"y" * CUT_LETTER_BYTES
        assert dict(second.headers)["cut_from_bytes"] == str(LETTER_BYTES_MAX + 1).encode()
        assert dict(second.headers)["sha256"] == hashlib.sha256(larger).hexdigest().encode()

    def test_a_misplaced_event_that_is_too_large_to_be_moved_is_a_dead_letter(self) -> None:
        books = Books(partition=0, partitions=2)
        away = next(f"org_{n}" for n in range(50) if partition_of(f"org_{n}", 2) == 1)
        small = event("small", subject=away)
        outcome = books.publish(
            packed(small), packed(event("large", subject=away, junk="x" * LETTER_BYTES_MAX))
        )
        assert (len(outcome.moved), reasons(outcome)) == (1, ["invalid"])
        # Nothing of it is remembered: sent again without the junk, it is moved and charged.
        assert len(books.publish(packed(event("large", subject=away))).moved) == 1

    @pytest.mark.parametrize("limit", ["UNIT_BYTES_MAX", "UNIT_ROWS_MAX"])
    def test_a_unit_that_is_full_leaves_the_rest_of_its_batch_to_the_next(
        self, limit: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values = [b"[" + b",".join([packed(event(f"{n}-{m}")) for m in range(3)]) + b",0]" for n in range(4)]
        at_once, books = Books(), Books()
        whole = at_once.publish(*values)
        monkeypatch.setattr(posting_unit, limit, 2)
        monkeypatch.setattr(requests, "ROWS_A_RECORD", 1)
        records = [books.record(REQUESTS, value) for value in values]
        ends, letters = [], []
        for _ in values:
            outcome = books.post(records)
            ends.append(books.state.meta.offsets[REQUESTS])
            letters += [letter.headers for letter in outcome.dead_letters]
        assert ends == [1, 2, 3, 4]
        assert letters == [letter.headers for letter in whole.dead_letters]
        assert everything(books.state) == everything(at_once.state)

    def test_so_do_commands_by_what_their_replies_come_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(posting_unit, "UNIT_BYTES_MAX", 1)
        books = Books()
        commands = [Credit(id=str(n), org="org_1", amount_nano=5, reason="r") for n in range(3)]
        records = [books.record(BILLING, encode_command(command)) for command in commands]
        replies = [len(books.post(records).replies) for _ in range(4)]
        assert (replies, books.balance_nano()) == ([1, 1, 1, 0], 15)

"""Charging request events: the order of the checks, and what each leads to."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from msgspec import structs

from pipeline import ist
from pipeline.catalog.rates import UNLISTED
from pipeline.events import AHEAD_MS, LATE_MS
from pipeline.journal import decode_rows
from pipeline.partitioning import partition_of
from pipeline.posting.meters import DEBITED_MAX_NANO
from pipeline.posting.unit import UnitOutput
from pipeline.topics import MOVED
from pipeline.usage import CONTRADICTORY, OTHER_CLASSES, REASONING_BESIDE
from tests.support.builders import (
    COST_NANO,
    DROP,
    NOW_MS,
    Books,
    event,
    packed,
    rate,
    rate_table,
    reasons,
    time_text,
)

NEW = (*(each.column for each in OTHER_CLASSES), "irregular")
"""The columns that few rows use."""


def rows(outcome: UnitOutput) -> list[dict[str, Any]]:
    """Return the request rows of an outcome by column."""
    return [
        structs.asdict(row)
        for record in outcome.journal
        if record.kind == "requests"
        for row in decode_rows(record)
    ]


def elsewhere(partitions: int = 4, *, not_on: int = 0) -> str:
    """Return an org that belongs to another partition."""
    return next(org for org in (f"org_{n}" for n in range(99)) if partition_of(org, partitions) != not_on)


class TestCharging:
    def test_a_served_request_is_debited_and_journalled(self) -> None:
        books = Books()
        outcome = books.publish(packed(event(data__error_code=None, data__ttft_ms=120, data__stream=True)))
        assert rows(outcome) == [
            {
                "id": 1024,
                "org": "org_1",
                "at_ms": 1_781_288_999_123,
                "posted_ms": NOW_MS,
                "source": "gateway/mum-1",
                "event_id": "e1",
                "key_id": "key_1",
                "tier": "standard",
                "byok": False,
                "model": "krutrim-2",
                "provider": "krutrim",
                "status": 200,
                "error_code": "",
                "latency_ms": 740,
                "ttft_ms": 120,
                "stream": True,
                "prompt_tokens": 200,
                "cached_tokens": 64,
                "completion_tokens": 112,
                "reasoning_tokens": 0,
                "cost_nano": COST_NANO,
                "rate_from_ms": 0,
                **dict.fromkeys(NEW, 0),
            }
        ]
        assert books.balance_nano() == -COST_NANO

    @pytest.mark.parametrize(
        "changes",
        [
            {"data__tier": "trial"},
            {"data__byok": True},
            {"data__status": 400},
            {"data__status": 502, "data__usage": None, "data__provider": DROP},
        ],
        ids=str,
    )
    def test_free_requests_count_and_need_no_rate(self, changes: dict[str, Any]) -> None:
        books = Books(rates=rate_table(rate(model="other")))
        [row] = rows(books.publish(packed(event(**changes))))
        assert (row["cost_nano"], row["rate_from_ms"], books.balance_nano()) == (0, 0, 0)
        usage = books.state.account("org_1").spending.keys["key_1"]
        assert list(usage.days.values()) == [1]

    def test_a_request_is_rated_by_its_own_time(self) -> None:
        at_ms = 1_781_288_999_123
        books = Books(
            rates=rate_table(rate(from_ms=7), rate(from_ms=at_ms, input_nano=1), rate(from_ms=at_ms + 1))
        )
        [row] = rows(books.publish(packed(event())))
        assert row["rate_from_ms"] == at_ms
        assert row["cost_nano"] == 136 * 1 + 64 * 3_125 + 112 * 50_000

    def test_every_class_and_the_mark_are_in_the_row_and_its_cost_follows_from_them(self) -> None:
        each = rate(others_nano=(15_625, 100_000, 200_000), request_nano=50_000_000)
        books = Books(rates=rate_table(each))
        usage = {
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "total_tokens": 1000 + 500 + 300,
            "prompt_tokens_details": {"cached_tokens": 200, "cache_write_tokens": 100, "audio_tokens": 50},
            "completion_tokens_details": {"reasoning_tokens": 300, "audio_tokens": 80},
        }
        outcome = books.publish(packed(event("a", data__usage=usage), event("b")))
        row, plain = rows(outcome)
        assert row["cache_write_tokens"] == 100
        assert (row["audio_input_tokens"], row["audio_output_tokens"]) == (50, 80)
        assert (row["reasoning_tokens"], row["irregular"]) == (300, REASONING_BESIDE)
        assert row["cost_nano"] == (
            650 * 12_500
            + 200 * 3_125
            + 100 * 15_625
            + 50 * 100_000
            + 720 * 50_000
            + 80 * 200_000
            + 50_000_000
        )
        assert [plain[name] for name in NEW] == [0, 0, 0, 0]
        assert outcome.counts["irregular"] == 1

    @pytest.mark.parametrize(
        "usage", ["n/a", {}, {"prompt_tokens": -1}, {"prompt_tokens": 1, "total_tokens": 9}]
    )
    def test_a_failed_request_counts_whatever_its_usage_is(self, usage: object) -> None:
        books = Books()
        outcome = books.publish(packed(event("a", data__status=500, data__usage=usage), event("b")))
        failed, served = rows(outcome)
        assert (failed["prompt_tokens"], failed["completion_tokens"], failed["irregular"]) == (
            0,
            0,
            CONTRADICTORY,
        )
        assert (failed["cost_nano"], served["cost_nano"]) == (0, COST_NANO)
        assert books.state.account("org_1").spending.keys["key_1"].days == {ist.day_of(NOW_MS - 1): 2}
        assert (outcome.counts["events"], outcome.counts["irregular"]) == (2, 1)

    def test_names_that_failed_requests_make_up_are_one_in_the_books(self) -> None:
        listed = rate()
        failed = {"data__status": 404, "data__usage": DROP}
        made_up = [event(f"a{n}", data__model=f"junk-{n}", data__provider=DROP, **failed) for n in range(50)]
        outcome = Books().publish(
            packed(
                *made_up,
                event("b", **failed),
                event("c", data__provider=DROP, **failed),
                event("d", data__provider="nobody", **failed),
                event("e", data__model="junk", data__tier="trial"),
            )
        )
        names = [(row["model"], row["provider"]) for row in rows(outcome)]
        assert names[:50] == [(UNLISTED, "")] * 50
        assert names[50:53] == [
            (listed.model, listed.provider),
            (listed.model, ""),
            (listed.model, UNLISTED),
        ]
        assert names[53] == ("junk", listed.provider), "whoever was served had a model"

    def test_a_duplicate_is_not_counted_as_irregular_again(self) -> None:
        books = Books()
        value = packed(event(data__usage={"prompt_tokens": 1, "total_tokens": 9}))
        assert [books.publish(value).counts["irregular"] for _ in range(2)] == [1, 0]

    def test_durations_are_whole_in_the_row(self) -> None:
        [row] = rows(Books().publish(packed(event(data__latency_ms=740.5, data__ttft_ms=119.4))))
        assert (row["latency_ms"], row["ttft_ms"]) == (741, 119)

    def test_the_month_and_the_day_are_the_requests_own(self) -> None:
        books = Books()
        start = ist.month_start_ms(202607)
        for n, at_ms in enumerate([start - 1, start, start + 1, start - ist.DAY_MS]):
            books.publish(packed(event(str(n), time=time_text(at_ms))), at_ms=start + 5)
        usage = books.state.account("org_1").spending.keys["key_1"]
        assert usage.months == {202606: 2 * COST_NANO, 202607: 2 * COST_NANO}
        first = ist.day_of(start)
        assert usage.days == {first - 1: 2, first: 2}

    def test_ids_rise_by_a_row_whatever_the_unit(self) -> None:
        books = Books(partition=0)
        ids = []
        for n in range(3):
            outcome = books.publish(packed(event(f"a{n}"), event(f"b{n}")), packed(event(f"c{n}")))
            ids += [row["id"] for row in rows(outcome)]
        assert ids == [1024 * n for n in range(1, 10)]

    def test_the_time_of_posting_never_falls(self) -> None:
        books = Books()
        stamps = [NOW_MS, NOW_MS - 5_000, NOW_MS + 1]
        posted = [
            rows(books.publish(packed(event(str(n))), at_ms=ms))[0]["posted_ms"]
            for n, ms in enumerate(stamps)
        ]
        assert posted == [NOW_MS, NOW_MS, NOW_MS + 1]

    def test_debits_beyond_any_real_amount_are_set_aside(self) -> None:
        books = Books()
        account = books.state.account("org_1")
        account.spending.debited_nano = DEBITED_MAX_NANO + 1
        books.state.save_account(account, profile_too=False)
        outcome = books.publish(packed(event(), event("free", data__byok=True)))
        assert reasons(outcome) == ["invalid"]
        assert len(rows(outcome)) == 1


class TestDeadLetters:
    @pytest.mark.parametrize(
        ("changes", "reason", "detail"),
        [
            ({"time": "yesterday, at noon, or so"}, "invalid", "RFC 3339"),
            ({"time": time_text(NOW_MS - LATE_MS - 1)}, "too_late", "35 days"),
            ({"time": time_text(NOW_MS + AHEAD_MS + 1)}, "from_the_future", "10 minutes"),
            ({"time": "0001-01-01T00:00:00+00:00"}, "too_late", "35 days"),
            ({"time": "9999-12-31T23:59:59-23:59"}, "from_the_future", "10 minutes"),
            ({"data__usage": None}, "invalid", "usage"),
            ({"data__provider": None}, "invalid", "provider"),
            ({"data__byok": True, "data__provider": None}, "invalid", "provider"),
            ({"data__usage__prompt_tokens_details": {"cached_tokens": -1}}, "invalid", "cached"),
            ({"sequence": "12a"}, "invalid", "sequence"),
            ({"sequence": "٤٢"}, "invalid", "sequence"),
            ({"subject": "\x00progress"}, "invalid", "subject"),
            ({"data__model": "gpt-0"}, "unpriced", "gpt-0"),
            ({"data__provider": "e2e"}, "unpriced", "e2e"),
        ],
        ids=str,
    )
    def test_a_bad_event_goes_with_its_own_bytes_and_its_neighbours_are_charged(
        self, changes: dict[str, Any], reason: str, detail: str
    ) -> None:
        bad = json.dumps(event("bad", **changes), indent=3).encode()
        value = b"[" + packed(event("a")) + b"," + bad + b", " + packed(event("b")) + b"]"
        books = Books()
        outcome = books.publish(b"", value)
        assert [row["event_id"] for row in rows(outcome)] == ["a", "b"]
        [_, letter] = outcome.dead_letters
        assert letter.value == bad
        headers = dict(letter.headers)
        assert (headers["reason"], letter.reason) == (reason.encode(), reason)
        assert detail in headers["detail"].decode()
        assert (headers["topic"], headers["partition"], headers["offset"]) == (
            b"metering.requests",
            b"0",
            b"1",
        )
        assert outcome.counts["events"] == 4

    @pytest.mark.parametrize("at_ms", [NOW_MS - LATE_MS, NOW_MS + AHEAD_MS])
    def test_the_window_includes_both_its_ends(self, at_ms: int) -> None:
        assert reasons(Books(rates=rate_table()).publish(packed(event(time=time_text(at_ms))))) == []

    def test_equal_bad_events_each_have_a_letter_of_their_own_bytes(self) -> None:
        one, other = event(data__model="x"), event(data__model="x", note="unknown fields are kept too")
        outcome = Books().publish(packed(one, other, one))
        assert [json.loads(letter.value) for letter in outcome.dead_letters] == [one, other, one]

    def test_a_long_detail_is_cut_between_characters(self) -> None:
        outcome = Books().publish(packed(event(data__model="क" * 256, data__provider="ख" * 256)))
        detail = dict(outcome.dead_letters[0].headers)["detail"]
        assert "ककक" in detail.decode()
        assert len(detail) <= 2_000

    def test_dead_letters_are_not_remembered(self) -> None:
        books = Books(rates=rate_table(rate(model="other")))
        for changes in ({}, {"sequence": "7"}):
            value = packed(event(**changes))
            assert reasons(books.publish(value, value)) == ["unpriced", "unpriced"]
        books.rates.add(rate())
        assert len(rows(books.publish(packed(event(sequence="7"))))) == 1

    def test_a_record_full_of_unpriced_events_takes_seconds_at_most(self) -> None:
        value = packed(*(event(f"e{n}", data__model="gpt-0") for n in range(8_000)))
        started = time.process_time()
        outcome = Books().publish(value)
        assert time.process_time() - started < 10
        assert len(outcome.dead_letters) == 8_000
        assert json.loads(outcome.dead_letters[7_999].value)["id"] == "e7999"


class TestDuplicates:
    @pytest.mark.parametrize("sequence", [DROP, "00042", "99999999999999999999"])
    def test_an_event_is_charged_once(self, sequence: object) -> None:
        value = packed(event(sequence=sequence))
        books = Books()
        first = books.publish(value, value, packed(event(sequence=sequence), event(sequence=sequence)))
        assert (len(rows(first)), first.counts["duplicates"]) == (1, 3)
        assert rows(books.publish(value)) == []
        books.state = books.restore()
        again = books.publish(value)
        assert (rows(again), again.counts["duplicates"]) == ([], 1)
        assert books.balance_nano() == -COST_NANO

    def test_the_same_id_of_another_source_is_another_event(self) -> None:
        books = Books()
        outcome = books.publish(
            packed(event("bc", source="a"), event("c", source="ab"), event("bc", source="a2"))
        )
        assert len(rows(outcome)) == 3

    def test_a_number_at_or_below_the_last_is_a_duplicate(self) -> None:
        books = Books()
        numbers = ["5", "0007", "7", "6", "8", "100"]
        outcome = books.publish(packed(*(event(f"e{n}", sequence=s) for n, s in enumerate(numbers))))
        assert [row["event_id"] for row in rows(outcome)] == ["e0", "e1", "e4", "e5"]

    def test_numbers_of_different_sources_are_apart(self) -> None:
        outcome = Books().publish(
            packed(event("a", source="s1", sequence="5"), event("a", source="s2", sequence="5"))
        )
        assert len(rows(outcome)) == 2

    def test_an_event_with_other_content_is_a_duplicate_all_the_same(self) -> None:
        books = Books()
        outcome = books.publish(packed(event(), event(data__usage__prompt_tokens=9_999, subject="org_2")))
        assert (len(rows(outcome)), outcome.counts["duplicates"]) == (1, 1)


class TestMoving:
    def two(self) -> tuple[Books, Books, str]:
        """Return the partition that reads, the one that owns, and an org of the latter."""
        org = elsewhere()
        rates = rate_table()
        return Books(0, 4, rates), Books(partition_of(org, 4), 4, rates), org

    @pytest.mark.parametrize("sequence", [DROP, "7"])
    def test_a_misplaced_event_is_moved_and_charged_once(self, sequence: object) -> None:
        here, there, org = self.two()
        value = packed(event("mine", subject=next(o for o in map(str, range(99)) if partition_of(o, 4) == 0)))
        misplaced = packed(event(subject=org, sequence=sequence, extra=1))
        outcome = here.publish(b"[" + value + b"," + misplaced + b"," + misplaced + b"]")
        [moved] = outcome.moved
        assert (moved.partition, moved.value) == (there.state.partition, misplaced)
        assert (len(rows(outcome)), outcome.counts["moved"], outcome.counts["duplicates"]) == (1, 1, 1)
        arrived = there.publish(moved.value, moved.value, topic=MOVED)
        assert len(rows(arrived)) == 1
        assert there.balance_nano(org) == -COST_NANO

    @pytest.mark.parametrize("sequence", [DROP, "7"])
    def test_one_that_is_then_published_where_it_belongs_is_a_duplicate(self, sequence: object) -> None:
        here, there, org = self.two()
        value = packed(event(subject=org, sequence=sequence))
        [moved] = here.publish(value).moved
        there.publish(moved.value, topic=MOVED)
        for _ in range(2):
            again = there.publish(value)
            assert (rows(again), again.counts["duplicates"]) == ([], 1)

    @pytest.mark.parametrize("sequence", [DROP, "7", "99999999999999999999"])
    @pytest.mark.parametrize("restored", [False, True])
    def test_one_that_was_charged_where_it_belongs_is_a_duplicate(
        self, sequence: object, restored: bool
    ) -> None:
        here, there, org = self.two()
        value = packed(event(subject=org, sequence=sequence))
        assert len(rows(there.publish(value))) == 1
        [moved] = here.publish(value).moved
        if restored:
            there.state = there.restore()
        for _ in range(2):
            again = there.publish(moved.value, topic=MOVED)
            assert (rows(again), again.counts["duplicates"]) == ([], 1)
        assert there.balance_nano(org) == -COST_NANO

    def test_a_moved_number_below_the_last_is_charged(self) -> None:
        here, there, org = self.two()
        [moved] = here.publish(packed(event("e5", subject=org, sequence="5"))).moved
        there.publish(packed(event("e6", subject=org, sequence="6")))
        assert len(rows(there.publish(moved.value, topic=MOVED))) == 1

    def test_a_moved_event_may_be_older_than_an_event_that_arrives(self) -> None:
        books = Books()
        old = packed(event(time=time_text(NOW_MS - 2 * LATE_MS)))
        [row] = rows(books.publish(old, topic=MOVED))
        assert row["at_ms"] == NOW_MS - 2 * LATE_MS

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("9999-12-31T23:59:59-23:59", "from_the_future"),
            ("0001-01-01T00:00:00+23:59", "too_late"),
            (time_text(NOW_MS + 3 * ist.DAY_MS), "from_the_future"),
        ],
    )
    def test_a_moved_event_of_no_real_time_is_a_dead_letter(self, text: str, reason: str) -> None:
        assert reasons(Books().publish(packed(event(time=text)), topic=MOVED)) == [reason]

    def test_what_is_wrong_with_an_old_moved_event_is_said_truly(self) -> None:
        old = event(time=time_text(NOW_MS - 2 * LATE_MS), data__provider=None)
        [letter] = Books().publish(packed(old), topic=MOVED).dead_letters
        assert b"provider" in dict(letter.headers)["detail"]

    def test_a_moved_event_on_the_wrong_partition_is_moved_again(self) -> None:
        here, there, org = self.two()
        [moved] = here.publish(packed(event(subject=org)), topic=MOVED).moved
        assert moved.partition == there.state.partition


def test_a_tombstone_and_an_empty_array_lose_nothing() -> None:
    outcome = Books().publish(None, b"[]", b"")
    assert reasons(outcome) == ["malformed", "malformed"]
    assert outcome.offsets == {"metering.requests": 3}
    assert outcome.counts["events"] == 2

"""Decoding: which bytes are events, which are not and why, and what a time says."""

from __future__ import annotations

import json
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pipeline import events
from pipeline.events import (
    Rejected,
    RequestEvent,
    Timestamps,
    decode_record,
    elements_of,
    split_record,
    whole_ms,
)
from pipeline.outcomes import DeadLetterReason
from pipeline.usage import UNREADABLE
from tests.support.builders import DROP, EXAMPLES, MANY_EXAMPLES, event, packed


def only(value: bytes | None) -> RequestEvent | Rejected:
    """Return what a record of one element holds."""
    [(_, element)] = split_record(value)
    return element


class TestDecoding:
    def test_a_valid_event_is_the_same_either_way(self) -> None:
        value = packed(event())
        assert decode_record(value) == [only(value)]
        assert split_record(value)[0][0] == value

    @pytest.mark.parametrize(
        "changes",
        [
            {"source": DROP},
            {"id": ""},
            {"id": "x" * 257},
            {"subject": None},
            {"subject": "o" * 129},
            {"specversion": "1.1"},
            {"type": "something.else"},
            {"time": 1},
            {"sequence": 42},
            {"sequence": ""},
            {"sequence": "1" * 21},
            {"data": []},
            {"data__status": 99},
            {"data__status": "200"},
            {"data__status": True},
            {"data__byok": 0},
            {"data__byok": "true"},
            {"data__tier": "Standard"},
            {"data__latency_ms": -1},
            {"data__latency_ms": 10**30},
            {"data__latency_ms": -0.5},
            {"data__latency_ms": "1"},
            {"data__ttft_ms": 86_400_000.5},
            {"data__usage__prompt_tokens": 1e300},
            {"data__usage__prompt_tokens": -1},
            {"data__usage__prompt_tokens": 10**8 + 1},
            {"data__usage__prompt_tokens": 200.0},
            {"data__usage__prompt_tokens": None},
            {"data__usage__completion_tokens": -1},
            {"data__usage__total_tokens": 4 * 10**8 + 1},
            {"data__usage__prompt_tokens_details": 5},
            {"data__usage__prompt_tokens_details": [{}]},
            {"data__usage__prompt_tokens_details__cached_tokens": 1.5},
            {"data__usage__completion_tokens_details": {"audio_tokens": -1}},
            {"data__error_code": "e" * 257},
        ],
        ids=lambda changes: str(changes)[:50],
    )
    def test_a_field_that_is_missing_or_mistyped_makes_it_invalid(self, changes: dict[str, Any]) -> None:
        value = packed(event(**changes))
        assert decode_record(value) is None
        rejected = only(value)
        assert isinstance(rejected, Rejected)
        assert rejected.reason == "invalid"
        assert rejected.detail

    @pytest.mark.parametrize(
        "value",
        [
            None,
            b"",
            b" ",
            b"{",
            b"[",
            b"]",
            b"[[]",
            b'["',
            b"[1,2",
            b"nul",
            b"\x00",
            b"\xff\xfe",
            b"\xef\xbb\xbf" + packed(event()),
            packed(event())[:-1],
            packed(event()) + b"x",
            packed(event(subject="XX")).replace(b"XX", b"\xff"),
            packed(event(subject="XX")).replace(b"XX", b"\\ud800"),
            b'{"a":' * 100_000,
            b"[" * 1_000_000,
            b"[" * 100_000 + b"]" * 100_000 + b",",
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_bytes_that_are_not_json_are_one_malformed_element(self, value: bytes | None) -> None:
        assert decode_record(value) is None
        [(part, element)] = split_record(value)
        assert part == (value or b"")
        assert isinstance(element, Rejected)
        assert element.reason == "malformed"

    @pytest.mark.parametrize("value", [b"1", b"null", b'"text"', b"{}", b"true", b"[null]", b"[[]]"])
    def test_json_that_is_no_event_is_invalid(self, value: bytes) -> None:
        rejected = only(value)
        assert isinstance(rejected, Rejected)
        assert rejected.reason == "invalid"

    @pytest.mark.parametrize("value", [b"[]", b" [ ] ", b"\r\n\t[\n]\n"])
    def test_an_empty_array_holds_nothing(self, value: bytes) -> None:
        assert split_record(value) == []
        assert decode_record(value) in ([], None)

    def test_the_last_of_two_equal_keys_counts_either_way(self) -> None:
        value = packed(event()).replace(b'"subject": "org_1"', b'"subject": "a", "subject": "org_2"')
        found = only(value)
        assert isinstance(found, RequestEvent)
        assert found.subject == "org_2"
        assert decode_record(value) == [found]

    def test_a_broken_string_in_a_field_nobody_reads_is_no_harm(self) -> None:
        value = packed(event(x="XX")).replace(b"XX", b"\xff\xfe")
        assert decode_record(value) == [only(value)]


class TestFailed:
    @pytest.mark.parametrize(
        "usage",
        [
            "n/a",
            5,
            [],
            {},
            {"prompt_tokens": None},
            {"prompt_tokens": -1, "completion_tokens": 2},
            {"prompt_tokens": 1.5},
            {"prompt_tokens": 8, "prompt_tokens_details": "none"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("status", [400, 599])
    def test_whatever_the_usage_of_a_failed_request_is_it_is_an_event(
        self, usage: object, status: int
    ) -> None:
        value = packed(event(sequence="7", data__status=status, data__usage=usage, data__error_code="e"))
        [perfect] = (
            decode_record(packed(event(sequence="7", data__status=status, data__error_code="e"))) or []
        )
        found = only(value)
        assert isinstance(found, RequestEvent)
        assert found.data.usage == UNREADABLE
        assert structs.replace(found, data=structs.replace(found.data, usage=perfect.data.usage)) == perfect
        served = only(packed(event(data__status=399, data__usage=usage)))
        assert isinstance(served, Rejected)

    def test_what_else_is_wrong_with_it_makes_it_invalid_still(self) -> None:
        found = only(packed(event(data__status=500, data__usage="n/a", data__byok="no")))
        assert isinstance(found, Rejected)
        assert "byok" in found.detail or "usage" in found.detail


class TestDurations:
    @pytest.mark.parametrize(
        ("given_ms", "whole"),
        [(0, 0), (740, 740), (740.4, 740), (740.5, 741), (741.5, 742), (86_400_000.0, 86_400_000)],
    )
    def test_a_fraction_is_rounded_a_half_upwards(self, given_ms: float, whole: int) -> None:
        [found] = decode_record(packed(event(data__latency_ms=given_ms, data__ttft_ms=given_ms))) or []
        assert found.data.ttft_ms is not None
        for ms in (whole_ms(found.data.latency_ms), whole_ms(found.data.ttft_ms)):
            assert ms == whole
            assert isinstance(ms, int)


class TestNeighbours:
    @pytest.mark.parametrize(
        "bad",
        [
            b"1",
            b"null",
            b"{}",
            b"{oops}",
            b"1e999999",
            b"tru",
            b'"\\ud800"',
            b'"\xff"',
            b'{"a": "]}[{,\\""}',
            b"[" * 20_000 + b"]" * 20_000,
            b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
            b"",
        ],
        ids=lambda bad: repr(bad)[:20],
    )
    def test_a_bad_element_is_told_apart_from_its_neighbours(self, bad: bytes) -> None:
        first, last = packed(event("a")), packed(event("b", x='a ] } " \\ string'))
        elements = split_record(b" [" + first + b" ,\n" + bad + b", " + last + b"]\n")
        assert [part for part, _ in elements] == [first, bad, last]
        assert [isinstance(element, Rejected) for _, element in elements] == [False, True, False]

    @EXAMPLES
    @given(
        st.lists(
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
                ),
                max_leaves=12,
            ),
            max_size=6,
        ),
        st.booleans(),
    )
    def test_brackets_alone_find_the_same_elements_as_a_json_parser(
        self, documents: list[Any], escaped: bool
    ) -> None:
        value = json.dumps(documents, ensure_ascii=escaped, indent=1).encode("utf-8", "surrogatepass")
        assert events._scan_array(value) == (elements_of(value) if documents else [b""])

    @pytest.mark.parametrize(
        "value",
        [
            b"[" + b'\\"' * 1_000_000,
            b'["' + b'\\"' * 1_000_000,
            b"[" + b'"",' * 700_000 + b"oops]",
            b"[" + b"1," * 1_000_000 + b"1]",
            b"[" + b"[" * 2_000_000,
            b"[" + b"{}," * 700_000 + b"]",
        ],
        ids=lambda value: repr(value[:8]),
    )
    def test_megabytes_of_nonsense_are_one_element_within_seconds(self, value: bytes) -> None:
        started = time.process_time()
        [(part, element)] = split_record(value)
        assert time.process_time() - started < 5
        assert part == value
        assert isinstance(element, Rejected)

    def test_a_record_full_of_events_is_still_told_apart(self) -> None:
        one = packed(event())
        count = 4 * 1024 * 1024 // (len(one) + 1) - 1
        elements = split_record(b"[" + (one + b",") * count + b"oops]")
        assert len(elements) == count + 1
        assert isinstance(elements[-1][1], Rejected)
        assert not any(isinstance(element, Rejected) for _, element in elements[:-1])


class TestTimes:
    ms = staticmethod(Timestamps().ms)

    @MANY_EXAMPLES
    @given(
        st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001
        st.integers(-1439, 1439),
        st.integers(0, 9),
        st.sampled_from("Tt"),
    )
    def test_a_time_is_the_instant_cut_to_the_millisecond(
        self, local: datetime, offset_minutes: int, digits: int, separator: str
    ) -> None:
        zone = timezone(timedelta(minutes=offset_minutes))
        at = local.replace(tzinfo=zone)
        fraction = f".{at.microsecond:06d}999"[: digits + 1] if digits else ""
        sign, minutes = ("-" if offset_minutes < 0 else "+"), abs(offset_minutes)
        text = f"{at.strftime('%Y').zfill(4)}{at.strftime('-%m-%d')}{separator}{at.strftime('%H:%M:%S')}"
        text += f"{fraction}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
        cut = (fraction[1:4] or "0").ljust(3, "0")
        whole_ms = (at.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        assert Timestamps().ms(text) == whole_ms + int(cut)

    @pytest.mark.parametrize(
        ("text", "same_as"),
        [
            ("2026-06-12T18:29:59.999999999Z", "2026-06-12T18:29:59.999Z"),
            ("2026-06-12T18:29:59.9Z", "2026-06-12T18:29:59.900Z"),
            ("2026-06-12t18:29:59z", "2026-06-12T18:29:59.000Z"),
            ("2026-06-13T00:00:00+05:30", "2026-06-12T18:30:00.000Z"),
            ("2026-06-12T18:30:00-00:00", "2026-06-12T18:30:00.000Z"),
            ("2026-06-30T23:59:60Z", "2026-07-01T00:00:00.000Z"),
            ("2026-07-01T05:29:60.250+05:30", "2026-07-01T00:00:00.250Z"),
            ("2026-06-12T18:29:59.0000000000000000000Z", "2026-06-12T18:29:59.000Z"),
        ],
    )
    def test_two_ways_to_write_an_instant(self, text: str, same_as: str) -> None:
        assert self.ms(text) == self.ms(same_as) is not None

    @pytest.mark.parametrize(
        "text",
        [
            "2026-06-12T24:00:00Z",
            "2026-06-12T18:60:00Z",
            "2026-06-12T18:29:61Z",
            "2026-06-12T18:29:60Z",
            "2026-06-12 18:29:59Z",
            "2026-06-12T18:29:59",
            "2026-06-12T18:29:59.Z",
            "2026-06-12T18:29:59,5Z",
            "2026-06-12T18:29Z",
            "20260612T182959Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-06-12T18:29:59+0530",
            "2026-06-12T18:29:59+24:00",
            "2026-06-12T18:29:59+05:60",
            "2026-06-12T18:29:59 Z",
            "2026-06-12T18:29:59Z\n",
            "2026-06-12T18:29:59ZZ",
            "٢٠٢٦-06-12T18:29:59Z",
            "-2026-06-12T18:29:59Z",
            "",
            "Z",
        ],
    )
    def test_texts_that_are_no_time(self, text: str) -> None:
        assert self.ms(text) is None

    def test_both_ends_of_the_calendar(self) -> None:
        assert self.ms("0001-01-01T00:00:00+23:59") == -62_135_596_800_000 - 86_340_000
        assert self.ms("9999-12-31T23:59:59.999-23:59") == 253_402_300_799_999 + 86_340_000

    def test_a_remembered_second_gives_the_same_again(self) -> None:
        times = Timestamps()
        texts = [f"2026-06-12T18:29:59.{ms:03d}Z" for ms in range(0, 1000, 7)]
        assert [times.ms(t) for t in texts] == [Timestamps().ms(t) for t in texts]
        assert times.ms("2026-06-12T18:29:59.12Z") == times.ms("2026-06-12T18:29:59.120Z")

    def test_the_memory_of_seconds_is_bounded(self) -> None:
        times = Timestamps()
        for second in range(3 * events._SECONDS_KEPT):
            day, rest = divmod(second, 86_400)
            text = f"2026-06-{day + 1:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}Z"
            assert times.ms(text) is not None
        assert len(times._second_ms) <= events._SECONDS_KEPT


def test_what_the_types_write_they_read() -> None:
    [found] = decode_record(packed(event(sequence="7"))) or []
    assert decode_record(msgspec.json.encode(found)) == [found]


@pytest.mark.parametrize(
    ("text", "is_one"), [("007", True), ("٤٢", False), ("1_0", False), ("+1", False), (" 1", False)]
)
def test_a_sequence_is_ascii_digits(text: str, is_one: bool) -> None:
    assert events.is_sequence(text) is is_one


def test_a_record_of_a_million_commas_is_not_taken_apart() -> None:
    """A few kilobytes on the wire may be that many elements, each of which would take memory."""
    value = b"[" + b"0," * 1_000_001 + b"0]"
    tracemalloc.start()
    [(part, element)] = split_record(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part == value
    assert isinstance(element, Rejected)
    assert element.reason == DeadLetterReason.INVALID
    assert peak < 100_000

"""The catalog's records: old ones mean what they meant, and newer ones are refused rather than half understood."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import RATE_MAX_NANO, REQUEST_MAX_NANO, Rate, Tier
from pipeline.catalog.stored import decode_rate, decode_rate_key, encode_rate
from pipeline.formats import NewerFormatError
from pipeline.usage import CLASSES, MAX_TOKENS, OTHER_CLASSES
from tests.support.builders import EXAMPLES, rate, rate_table

NANO = st.integers(0, RATE_MAX_NANO)
OTHERS = st.just(()) | st.tuples(*(NANO for _ in OTHER_CLASSES))
TIERS = st.lists(st.builds(Tier, st.integers(1, MAX_TOKENS), NANO, NANO, NANO, OTHERS), max_size=3)
RATES = st.builds(
    Rate,
    st.text(min_size=1, max_size=5),
    st.just("p"),
    st.integers(0, 2**42),
    NANO,
    NANO,
    NANO,
    OTHERS,
    st.just(0) | st.integers(0, REQUEST_MAX_NANO),
    TIERS.map(tuple),
)

OLD = b'{"model":"krutrim-2","provider":"krutrim","from_ms":7,"input_nano":12500,"cached_nano":3125,"output_nano":50000}'
"""A record as releases wrote it that knew three prices and no format."""


def second(**changes: Any) -> bytes:
    """Return a record of format 2."""
    prices = {
        "input": 5,
        "cached_input": 1,
        "cache_write": 6,
        "audio_input": 50,
        "output": 9,
        "audio_output": 90,
    }
    fields = {"format": 2, "model": "m", "provider": "p", "from_ms": 7, "prices": prices, "request_nano": 3}
    tiers = [{"above_prompt_tokens": 100, "prices": {**prices, "input": 10}}]
    return json.dumps({**fields, "tiers": tiers, **changes}).encode()


@EXAMPLES
@given(RATES)
def test_a_rate_comes_back_from_its_record(made: Rate) -> None:
    assert decode_rate(encode_rate(made)[1]) == made


def test_an_old_record_means_what_it_meant() -> None:
    assert (
        decode_rate(OLD)
        == rate(from_ms=7)
        == Rate("krutrim-2", "krutrim", 7, 12_500, 3_125, 50_000, (12_500, 12_500, 50_000), 0, ())
    )


def test_a_rate_that_an_old_release_can_read_is_written_as_it_reads() -> None:
    assert encode_rate(rate(from_ms=7))[1] == OLD


@pytest.mark.parametrize(
    "changes",
    [{"others_nano": (12_501, 12_500, 50_000)}, {"request_nano": 1}, {"tiers": (Tier(5, 1, 1, 1),)}],
    ids=str,
)
def test_a_rate_that_an_old_release_would_charge_wrongly_by_is_none_to_it(changes: dict[str, Any]) -> None:
    fields = json.loads(encode_rate(rate(**changes))[1])
    assert fields["format"] == 2
    assert not fields.keys() & {"input_nano", "cached_nano", "output_nano"}


def test_format_2_is_read() -> None:
    tier = Tier(100, 10, 1, 9, (6, 50, 90))
    assert decode_rate(second()) == Rate("m", "p", 7, 5, 1, 9, (6, 50, 90), 3, (tier,))


def test_a_class_that_a_release_before_did_not_know_costs_what_its_whole_does() -> None:
    found = decode_rate(second(prices={"input": 5, "output": 9}, tiers=[]))
    assert found == Rate("m", "p", 7, 5, 5, 9, (5, 5, 9), 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3},
        {"prices": {**dict.fromkeys(CLASSES, 1), "video_input": 1}},
        {"tiers": [{"above_prompt_tokens": 5, "prices": {**dict.fromkeys(CLASSES, 1), "video_input": 1}}]},
    ],
    ids=["format", "class", "class of a tier"],
)
def test_what_a_newer_release_wrote_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(NewerFormatError):
        decode_rate(second(**changes))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"{}",
        OLD.replace(b"12500", b"-1"),
        OLD.replace(b"50000", b"1e30"),
        second(format=0),
        second(prices={"input": 1}),
        second(prices={"input": 1, "output": RATE_MAX_NANO + 1}),
        second(request_nano=-1),
        second(request_nano=REQUEST_MAX_NANO + 1),
        second(tiers=[{"above_prompt_tokens": 0, "prices": {"input": 1, "output": 1}}]),
    ],
    ids=lambda value: value[:60].decode(),
)
def test_what_is_no_rate_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_rate(value)


def test_the_key_is_the_route_and_the_start() -> None:
    key = encode_rate(rate(model='क"', from_ms=3))[0]
    assert key == encode_rate(rate(model='क"', from_ms=3, input_nano=9, request_nano=5))[0]
    assert key != encode_rate(rate(model='क"', from_ms=4))[0]


def test_a_withdrawn_rate_is_gone_and_the_others_stay() -> None:
    table = rate_table(rate(from_ms=1), rate(from_ms=5))
    table.remove(*decode_rate_key(encode_rate(rate(from_ms=5))[0]))
    table.remove(*decode_rate_key(encode_rate(rate(from_ms=4))[0]))
    assert list(table) == [rate(from_ms=1)]
    table.remove(("krutrim-2", "krutrim"), 1)
    assert list(table) == [] and table.of_route(("krutrim-2", "krutrim")) == ()

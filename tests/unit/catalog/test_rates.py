"""Which rate is in force when."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import RATE_MAX_NANO, Rate, decode_rate, decode_rate_key, encode_rate
from tests.support.builders import EXAMPLES, rate, rate_table


@EXAMPLES
@given(st.lists(st.integers(0, 60), unique=True), st.integers(-5, 65), st.randoms(use_true_random=False))
def test_the_newest_rate_that_has_started_is_in_force(starts: list[int], at_ms: int, random: object) -> None:
    order = list(starts)
    random.shuffle(order)  # type: ignore[attr-defined]
    table = (
        rate_table(*(rate(from_ms=start) for start in order)) if order else rate_table(rate(model="other"))
    )
    in_force = table.in_force("krutrim-2", "krutrim", at_ms)
    started = [start for start in starts if start <= at_ms]
    assert (in_force.from_ms if in_force else None) == max(started, default=None)


def test_a_rate_is_in_force_from_its_first_millisecond_on() -> None:
    table = rate_table(rate(from_ms=1000), rate(from_ms=2000, input_nano=1))
    assert table.in_force("krutrim-2", "krutrim", 999) is None
    assert table.in_force("krutrim-2", "krutrim", 1999) == rate(from_ms=1000)
    assert table.in_force("krutrim-2", "krutrim", 2000) == rate(from_ms=2000, input_nano=1)
    assert table.in_force("krutrim-2", "e2e", 2000) is None


def test_the_same_start_replaces() -> None:
    table = rate_table(rate(from_ms=5), rate(from_ms=5, input_nano=7))
    assert list(table) == [rate(from_ms=5, input_nano=7)]


def test_the_catalog_shows_what_is_in_force_and_announced() -> None:
    table = rate_table(rate(from_ms=1), rate(from_ms=5), rate(from_ms=9), rate(model="a", from_ms=9))
    assert [(r.model, r.from_ms) for r in table.current_and_announced(6)] == [
        ("a", 9),
        ("krutrim-2", 5),
        ("krutrim-2", 9),
    ]
    assert table.models_in_force(6) == {"krutrim-2"}
    assert table.models_in_force(9) == {"a", "krutrim-2"}


def test_a_rate_comes_back_from_its_record() -> None:
    key, value = encode_rate(rate(model='क"', from_ms=3))
    assert decode_rate(value) == rate(model='क"', from_ms=3)
    assert key == encode_rate(rate(model='क"', from_ms=3, input_nano=9))[0]
    assert key != encode_rate(rate(model='क"', from_ms=4))[0]


@pytest.mark.parametrize(
    "changes", [{"input_nano": -1}, {"cached_nano": RATE_MAX_NANO + 1}, {"output_nano": 10**30}]
)
def test_a_record_with_an_absurd_rate_is_refused(changes: dict[str, int]) -> None:
    fields = msgspec.structs.asdict(rate())
    with pytest.raises(msgspec.MsgspecError):
        decode_rate(msgspec.json.encode({**fields, **changes}))


def test_a_route_is_model_and_provider() -> None:
    assert Rate("m", "p", 0, 1, 1, 1).route == ("m", "p")
    assert rate_table().of_route(("m", "p")) == ()


def test_a_withdrawn_rate_is_gone_and_the_others_stay() -> None:
    table = rate_table(rate(from_ms=1), rate(from_ms=5))
    table.remove(*decode_rate_key(encode_rate(rate(from_ms=5))[0]))
    table.remove(*decode_rate_key(encode_rate(rate(from_ms=4))[0]))
    assert list(table) == [rate(from_ms=1)]
    table.remove(("krutrim-2", "krutrim"), 1)
    assert list(table) == [] and table.of_route(("krutrim-2", "krutrim")) == ()

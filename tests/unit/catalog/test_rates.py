"""Which rate is in force when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import UNLISTED, Rate, RateTable, Tier
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


def test_classes_without_a_price_cost_what_their_whole_does() -> None:
    assert rate().others_nano == (12_500, 12_500, 50_000)
    assert Tier(5, 1, 2, 3).others_nano == (1, 1, 3)
    with pytest.raises(ValueError, match="2 prices for 3 classes"):
        rate(others_nano=(1, 2))


@pytest.mark.parametrize(("prompt", "above"), [(0, None), (100, None), (101, 100), (200, 100), (201, 200)])
def test_the_highest_tier_whose_bound_the_prompt_exceeds_counts(prompt: int, above: int | None) -> None:
    tier = rate(tiers=(Tier(200, 3, 3, 3), Tier(100, 2, 2, 2))).tier_of(prompt)
    assert (tier and tier.above_prompt_tokens) == above


def test_a_route_is_model_and_provider() -> None:
    assert Rate("m", "p", 0, 1, 1, 1).route == ("m", "p")
    assert rate_table().of_route(("m", "p")) == ()


def test_a_name_is_listed_as_long_as_some_route_with_a_rate_has_it() -> None:
    table = RateTable()
    assert table.listed("m", "p") == (UNLISTED, UNLISTED)
    table.add(rate(model="m", provider="p", from_ms=5))
    table.add(rate(model="m", provider="p", from_ms=5))
    table.add(rate(model="m", provider="q", from_ms=7))
    assert [table.listed(*each) for each in (("m", "p"), ("m", ""), ("n", "q"), ("m", "r"))] == [
        *(("m", "p"), ("m", ""), (UNLISTED, "q"), ("m", UNLISTED))
    ]
    table.remove(("m", "p"), 5)
    table.remove(("m", "p"), 5)
    assert table.listed("m", "p") == ("m", UNLISTED)
    table.remove(("m", "q"), 7)
    assert table.listed("m", "q") == (UNLISTED, UNLISTED)

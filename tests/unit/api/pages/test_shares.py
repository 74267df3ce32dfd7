"""Shares of the most used models: places, percent that never says nothing of something, and lengths of bars."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.pages.shares import model_shares


def test_models_have_their_share_of_all_tokens_and_bars_of_the_longest() -> None:
    shares = model_shares([("a", 12_34_567, 600_000), ("b", 3, 300_000), ("c", 2, 99_950), ("d", 1, 50)])
    assert [(each.place, each.model, each.share, each.length) for each in shares] == [
        (1, "a", "60.0 %", "100.0"),
        (2, "b", "30.0 %", "50.0"),
        (3, "c", "10.0 %", "16.6"),
        (4, "d", "< 0.1 %", "0.0"),
    ]
    assert (shares[0].requests_shown, shares[0].tokens_shown) == ("12,34,567", "6,00,000")


def test_the_first_ones_keep_their_share_of_all() -> None:
    assert [each.share for each in model_shares([("a", 1, 3), ("b", 1, 1)], 1)] == ["75.0 %"]


def test_models_without_a_token_have_no_share() -> None:
    assert [(each.share, each.length) for each in model_shares([("a", 2, 0)])] == [("0.0 %", "0.0")]
    assert model_shares([]) == []


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
def test_shares_add_up_and_no_bar_is_longer_than_the_first(tokens: list[int]) -> None:
    tokens.sort(reverse=True)
    shares = model_shares([(f"model-{n}", 1, count) for n, count in enumerate(tokens)])
    told = [0.0 if each.share.startswith("<") else float(each.share.split()[0]) for each in shares]
    if sum(tokens):
        assert abs(sum(told) - 100) <= 0.1 * len(tokens)
        assert shares[0].length == "100.0"
    assert all(0 <= float(each.length) <= 100 for each in shares)

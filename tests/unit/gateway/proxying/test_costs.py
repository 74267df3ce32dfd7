"""What is set aside for a request is never less than what it costs."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.rates import Rate, RateTable, Tier
from pipeline.catalog.rating import cost_nano
from pipeline.gateway.proxying.costs import MESSAGE_TOKENS, PART_TOKENS, max_cost_inr
from pipeline.money import parse_inr
from pipeline.usage import MAX_TOKENS, CompletionDetails, PromptDetails, Usage, counts_of

NOW_MS = 1_800_000_000_000


def table(*rates: Rate) -> RateTable:
    found = RateTable()
    for rate in rates:
        found.add(rate)
    return found


def held_nano(rates: RateTable, body: dict[str, Any], hold_tokens: int = 100, *, embeds: bool = False) -> int:
    cost_inr = max_cost_inr(rates, body, at_ms=NOW_MS, hold_tokens=hold_tokens, embeds=embeds)
    assert cost_inr is not None
    return parse_inr(cost_inr)


CHEAP = Rate("m", "cheap", 0, 10, 5, 100)
DEAR = Rate("m", "dear", 0, 20, 20, 300, request_nano=7)
TEXT = {"messages": [{"role": "user", "content": "नमस्ते"}]}
TEXT_TOKENS = len("rolecontentuser") + len("नमस्ते".encode()) + MESSAGE_TOKENS


def test_a_model_that_is_on_no_catalog_has_no_bound() -> None:
    later = Rate("m", "later", NOW_MS + 1, 1, 1, 1)
    for rates, model in ((table(CHEAP), "other"), (table(later), "m"), (table(CHEAP), None)):
        body = {"model": model, **TEXT}
        assert max_cost_inr(rates, body, at_ms=NOW_MS, hold_tokens=1) is None


def test_it_is_the_text_and_the_limit_at_the_dearest_provider() -> None:
    body = {"model": "m", "max_tokens": 40, **TEXT}
    assert held_nano(table(CHEAP), body) == TEXT_TOKENS * 10 + 40 * 100
    assert held_nano(table(CHEAP, DEAR), body) == TEXT_TOKENS * 20 + 40 * 300 + 7


def test_without_a_limit_the_setting_counts_and_choices_multiply() -> None:
    assert held_nano(table(CHEAP), {"model": "m", "prompt": "x"}) == 10 + 100 * 100
    assert held_nano(table(CHEAP), {"model": "m", "prompt": "x", "n": 3}) == 10 + 300 * 100
    assert held_nano(table(CHEAP), {"model": "m", "input": "x"}, embeds=True) == 10


def test_nonsense_has_a_bound_too() -> None:
    for limit in (-1, True, "many", None, 0, [1]):
        body = {"model": "m", "prompt": "x", "max_tokens": limit}
        assert held_nano(table(CHEAP), body) == 10 + 100 * 100
    body = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 10**30, "n": 10**30}
    assert held_nano(table(CHEAP), body) == 3 * 10 + MAX_TOKENS * 100


def test_pictures_count_as_parts_however_long_their_bytes_are() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:" + "x" * 1_000_000}}
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [picture, picture]}]}
    frame = len("rolecontentuser") + MESSAGE_TOKENS
    assert held_nano(table(CHEAP), body) == (frame + 2 * PART_TOKENS) * 10 + 100


def test_a_deep_body_is_no_harm() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert held_nano(table(CHEAP), {"model": "m", "messages": deep, "max_tokens": 1}) == 110


prices = st.integers(0, 1000)
tiers = st.builds(Tier, st.integers(1, 400), prices, prices, prices, st.tuples(prices, prices, prices))
rates = st.builds(
    lambda i, c, o, others, fee, tier: Rate("m", "p", 0, i, c, o, others, fee, (tier,)),
    prices,
    prices,
    prices,
    st.tuples(prices, prices, prices),
    prices,
    tiers,
)


@settings(deadline=None)
@given(rates, st.text(max_size=200), st.integers(1, 500), st.data())
def test_no_usage_within_the_limits_costs_more(
    rate: Rate, text: str, limit: int, data: st.DataObject
) -> None:
    body = {"model": "m", "max_tokens": limit, "prompt": text}
    prompt = data.draw(st.integers(0, len(text.encode("utf-8", "replace"))))
    completion = data.draw(st.integers(0, limit))

    def part(whole: int) -> int:
        return data.draw(st.integers(0, whole))

    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        prompt_tokens_details=PromptDetails(part(prompt), part(prompt), part(prompt)),
        completion_tokens_details=CompletionDetails(part(completion), part(completion)),
    )
    assert cost_nano(rate, *counts_of(usage, failed=False)) <= held_nano(table(rate), body)

"""What is charged of a usage object: the plain reading where it is regular, the written rule where it is not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.usage import (
    CACHE_BESIDE,
    CLASSES,
    CONTRADICTORY,
    MAX_TOKENS,
    NO_OTHERS,
    NOTHING,
    OTHER_CLASSES,
    REASONING_BESIDE,
    REGULAR,
    UNREADABLE,
    CompletionDetails,
    Counts,
    PromptDetails,
    Usage,
    counts_of,
    quantities_of,
)
from tests.support.builders import EXAMPLES, MANY_EXAMPLES


def usage(
    prompt: int,
    completion: int | None = None,
    total: int | None = None,
    *,
    cached: int | None = None,
    written: int | None = None,
    audio: int | None = None,
    reasoning: int | None = None,
    spoken: int | None = None,
) -> Usage:
    """Return a usage object."""
    return Usage(
        prompt, completion, total, PromptDetails(cached, written, audio), CompletionDetails(reasoning, spoken)
    )


def charged(found: Usage) -> dict[str, int]:
    """Return the tokens that a served request is charged for, by class, but for those of 0."""
    quantities = quantities_of(counts_of(found, failed=False))
    return {name: quantity for name, quantity in quantities.items() if quantity}


def irregular(found: Usage) -> int:
    """Return the mark of a served request."""
    return counts_of(found, failed=False)[-1]


class TestRealCases:
    @pytest.mark.parametrize(
        ("found", "tokens", "mark"),
        [
            pytest.param(
                usage(279, 6, 374, cached=149, reasoning=89),
                {"input": 130, "cached_input": 149, "output": 95},
                REASONING_BESIDE,
                id="xAI counts reasoning beside the completion",
            ),
            pytest.param(
                usage(279, 95, 374, cached=149, reasoning=89),
                {"input": 130, "cached_input": 149, "output": 95},
                REGULAR,
                id="OpenAI counts it within",
            ),
            pytest.param(Usage(8, None, 8), {"input": 8}, REGULAR, id="an embedding"),
            pytest.param(
                Usage(200, 112, 312, (), ()), {"input": 200, "output": 112}, REGULAR, id="empty lists"
            ),
            pytest.param(usage(200, 112, 312), {"input": 200, "output": 112}, REGULAR, id="null counts"),
            pytest.param(
                usage(1, 84, cached=965_602),
                {"cached_input": 1, "output": 84},
                CONTRADICTORY,
                id="Anthropic's counts without a total",
            ),
            pytest.param(
                usage(1, 84, 1 + 84 + 965_602, cached=965_602),
                {"input": 1, "cached_input": 965_602, "output": 84},
                CACHE_BESIDE,
                id="Anthropic's counts with a total",
            ),
            pytest.param(
                usage(1000, 84, 1000 + 84 + 300 + 200, cached=300, written=200, audio=40),
                {"input": 960, "cached_input": 300, "cache_write": 200, "audio_input": 40, "output": 84},
                CACHE_BESIDE,
                id="cache beside a prompt that is larger",
            ),
            pytest.param(
                usage(12, 20, 632),
                {"input": 12, "output": 20},
                CONTRADICTORY,
                id="Gemini's thoughts in the total alone",
            ),
            pytest.param(
                usage(10, 5, 0),
                {"input": 10, "output": 5},
                CONTRADICTORY,
                id="a total that was never filled in",
            ),
        ],
    )
    def test_a_real_object_is_charged_as_it_should_be(
        self, found: Usage, tokens: dict[str, int], mark: int
    ) -> None:
        assert charged(found) == tokens
        assert irregular(found) == mark


class TestCutting:
    def test_cached_tokens_come_before_writes_and_writes_before_audio(self) -> None:
        found = usage(100, 0, cached=60, written=30, audio=20)
        assert charged(found) == {"cached_input": 60, "cache_write": 30, "audio_input": 10}
        assert irregular(found) == CONTRADICTORY

    def test_what_fits_is_not_cut(self) -> None:
        found = usage(100, 9, 109, cached=60, written=30, audio=10, reasoning=9, spoken=9)
        assert charged(found) == {"cached_input": 60, "cache_write": 30, "audio_input": 10, "audio_output": 9}
        assert irregular(found) == REGULAR

    def test_reasoning_within_the_completion_is_not_charged_again(self) -> None:
        assert charged(usage(1, 10, 11, reasoning=10)) == {"input": 1, "output": 10}

    @pytest.mark.parametrize("total", [None, 11])
    def test_more_reasoning_than_completion_is_cut_where_no_total_says_otherwise(
        self, total: int | None
    ) -> None:
        counts = counts_of(usage(1, 10, total, reasoning=50), failed=False)
        assert counts == (1, 0, 10, 10, NO_OTHERS, CONTRADICTORY)

    def test_audio_beside_reasoning_counted_beside_is_still_of_the_completion(self) -> None:
        assert charged(usage(1, 10, 1 + 10 + 5, reasoning=5, spoken=12)) == {
            "input": 1,
            "output": 5,
            "audio_output": 10,
        }


class TestATotalThatFitsBothWays:
    def test_reasoning_is_taken_where_both_fit(self) -> None:
        found = usage(100, 100, 250, cached=50, reasoning=50)
        assert irregular(found) == REASONING_BESIDE
        assert charged(found) == {"input": 50, "cached_input": 50, "output": 150}

    def test_the_one_that_does_not_fit_within_is_the_one_beside(self) -> None:
        cache = usage(10, 100, 160, cached=50, reasoning=50)
        assert irregular(cache) == CACHE_BESIDE
        assert charged(cache) == {"input": 10, "cached_input": 50, "output": 100}
        reasoning = usage(100, 10, 160, cached=50, reasoning=50)
        assert irregular(reasoning) == REASONING_BESIDE
        assert charged(reasoning) == {"input": 50, "cached_input": 50, "output": 60}


class TestFailed:
    def test_a_perfect_usage_is_kept(self) -> None:
        found = usage(10, 5, 15, cached=4)
        assert counts_of(found, failed=True) == counts_of(found, failed=False) == (10, 4, 5, 0, NO_OTHERS, 0)

    @pytest.mark.parametrize(
        "found", [usage(10, 5, cached=11), usage(10, 5, 16), usage(1, 5, 15, reasoning=9), UNREADABLE]
    )
    def test_an_imperfect_one_counts_as_no_tokens_and_is_marked(self, found: Usage) -> None:
        assert counts_of(found, failed=True) == (0, 0, 0, 0, NO_OTHERS, CONTRADICTORY)


COUNT = st.none() | st.integers(0, 30) | st.integers(0, MAX_TOKENS)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Any usage object that the types let through, often one whose total says that something was beside."""
    prompt, completion = draw(st.integers(0, 30)), draw(COUNT)
    of_prompt, of_completion = (
        PromptDetails(*(draw(COUNT) for _ in range(3))),
        CompletionDetails(draw(COUNT), draw(COUNT)),
    )
    sums = [prompt + (completion or 0)]
    sums.append(sums[0] + (of_completion.reasoning_tokens or 0))
    sums.append(sums[0] + (of_prompt.cached_tokens or 0) + (of_prompt.cache_write_tokens or 0))
    total = draw(st.none() | st.sampled_from(sums) | st.integers(0, 4 * MAX_TOKENS))
    return Usage(
        prompt,
        completion,
        total,
        draw(st.just(of_prompt) | st.sampled_from([(), None])),
        draw(st.just(of_completion) | st.sampled_from([(), None])),
    )


def told(found: Usage) -> dict[str, int]:
    """Return every count of the details by name, 0 where it is absent."""
    of_prompt = found.prompt_tokens_details or PromptDetails()
    of_completion = found.completion_tokens_details or CompletionDetails()
    return {
        "cached_input": of_prompt.cached_tokens or 0,
        "cache_write": of_prompt.cache_write_tokens or 0,
        "audio_input": of_prompt.audio_tokens or 0,
        "audio_output": of_completion.audio_tokens or 0,
        "reasoning": of_completion.reasoning_tokens or 0,
    }


def is_regular(found: Usage) -> bool:
    """Whether nothing in an object contradicts anything else, by the definition and without the rule."""
    counts, completion = told(found), found.completion_tokens or 0
    of_prompt = counts["cached_input"] + counts["cache_write"] + counts["audio_input"]
    fits = of_prompt <= found.prompt_tokens and max(counts["reasoning"], counts["audio_output"]) <= completion
    return fits and found.total_tokens in (None, found.prompt_tokens + completion)


@MANY_EXAMPLES
@given(usages())
@example(usage(279, 6, 374, cached=149, reasoning=89))
def test_a_regular_object_is_read_plainly_and_no_other_is_unmarked(found: Usage) -> None:
    counts = told(found)
    assert (irregular(found) == REGULAR) is is_regular(found)
    if is_regular(found):
        quantities = quantities_of(counts_of(found, failed=False))
        parts = ("cached_input", "cache_write", "audio_input", "audio_output")
        assert {name: quantities[name] for name in parts} == {name: counts[name] for name in parts}
        assert sum(quantities.values()) == found.prompt_tokens + (found.completion_tokens or 0)


@EXAMPLES
@given(usages())
def test_the_classes_add_up_to_what_was_counted(found: Usage) -> None:
    counts = prompt, cached, completion, reasoning, others, mark = counts_of(found, failed=False)
    quantities = quantities_of(counts)
    assert list(quantities) == list(CLASSES)
    assert min(quantities.values()) >= 0
    assert (prompt, completion) == (found.prompt_tokens, found.completion_tokens or 0)
    of_prompt = sum(quantities[name] for name in ("input", "cached_input", "cache_write", "audio_input"))
    of_completion = quantities["output"] + quantities["audio_output"]
    assert of_prompt == prompt + (cached + others[0] if mark == CACHE_BESIDE else 0)
    assert of_completion == completion + (reasoning if mark == REASONING_BESIDE else 0)
    assert others is NO_OTHERS or any(others)


@EXAMPLES
@given(usages())
def test_prompt_and_completion_are_charged_whatever_else_is_said(found: Usage) -> None:
    quantities = quantities_of(counts_of(found, failed=False))
    assert sum(quantities.values()) >= found.prompt_tokens + (found.completion_tokens or 0)
    counts = told(found)
    assert all(quantities[name] <= counts[name] for name in quantities.keys() & counts.keys())


@EXAMPLES
@given(usages())
def test_a_total_that_accounts_for_something_beside_is_charged_in_full(found: Usage) -> None:
    if irregular(found) in (REASONING_BESIDE, CACHE_BESIDE):
        assert sum(quantities_of(counts_of(found, failed=False)).values()) == found.total_tokens


@pytest.mark.parametrize("each", OTHER_CLASSES, ids=lambda each: each.name)
def test_no_class_is_overlooked(each: Any) -> None:
    """A class that is in the table alone, and not where `counts_of` looks first, would be charged as another."""
    details = {f"{each.whole}_tokens_details": {each.field: 3}}
    found = msgspec.convert({"prompt_tokens": 5, "completion_tokens": 5, **details}, Usage)
    assert quantities_of(counts_of(found, failed=False))[each.name] == 3


def test_no_usage_is_no_tokens() -> None:
    nothing: Counts = NOTHING
    assert quantities_of(nothing) == dict.fromkeys(CLASSES, 0)

"""The stand-in's requests and answers: what is read, what is counted, who serves."""

from __future__ import annotations

import pytest

from pipeline.standin.completion import (
    COMPLETION_TOKENS,
    COMPLETION_TOKENS_MAX,
    BadRequest,
    answer,
    providers_of,
    read,
)
from tests.support.builders import rate, rate_table

HELLO = b'{"model": "m", "messages": [{"role": "user", "content": "one two three"}]%s}'


def test_tokens_are_words_and_answers_are_as_long_as_asked() -> None:
    assert answer(read(HELLO % b"")).usage()["prompt_tokens"] == 3
    assert len(answer(read(HELLO % b"")).words) == COMPLETION_TOKENS
    assert len(answer(read(HELLO % b', "max_tokens": 7')).words) == 7
    assert len(answer(read(HELLO % b', "max_tokens": 7, "max_completion_tokens": 500')).words) == 500
    assert len(answer(read(HELLO % b', "max_tokens": 1000000')).words) == COMPLETION_TOKENS_MAX


def test_parts_without_text_count_nothing() -> None:
    parts = b"""{"model": "m", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "one two"}, {"type": "image_url"}, {"text": 5}]},
        {"role": "assistant", "content": null}]}"""
    assert answer(read(parts)).prompt_tokens == 2


def test_a_cache_key_finds_half_of_the_prompt_cached() -> None:
    usage = answer(read(HELLO % b', "prompt_cache_key": "k"')).usage(5)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 1}
    assert (usage["completion_tokens"], usage["total_tokens"]) == (5, 8)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"[]", None),
        (b'{"messages": [{"role": "user"}]}', "model"),
        (b'{"model": "", "messages": [{"role": "user"}]}', "model"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": [{"content": "x"}]}', "messages[0].role"),
        (HELLO % b', "max_tokens": 0', "max_tokens"),
        (HELLO % b', "stream": "yes"', "stream"),
    ],
)
def test_what_cannot_be_read_names_the_field(body: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as bad:
        read(body)
    assert bad.value.param == param


def test_the_cheapest_provider_serves_first() -> None:
    rates = rate_table(
        rate(provider="dear", output_nano=60_000),
        rate(provider="cheap", output_nano=40_000),
        rate(provider="b", output_nano=50_000),
        rate(provider="a", output_nano=50_000),
        rate(provider="announced", output_nano=1, from_ms=2_000),
        rate(provider="raised", output_nano=10, from_ms=0),
        rate(provider="raised", output_nano=90_000, from_ms=500),
    )
    assert providers_of(rates, "krutrim-2", 1_000) == ["cheap", "a", "b", "dear", "raised"]
    assert providers_of(rates, "unknown", 1_000) == []

"""Providers' usage objects: each example of the corpus, and that what comes out is charged as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import SCHEMAS
from pipeline.gateway import Dialect, openai_usage
from pipeline.usage import CONTRADICTORY, REGULAR, Usage, counts_of, quantities_of
from tests.support.builders import EXAMPLES

CORPUS: list[dict[str, Any]] = json.loads((SCHEMAS / "usage-corpus.json").read_text(encoding="utf-8"))[
    "examples"
]
DIALECTS = get_args(Dialect)
COUNT = st.none() | st.integers(0, 1000)


def read(usage: dict[str, Any], dialect: Dialect) -> Usage:
    """Return what the worker makes of it."""
    return msgspec.convert(openai_usage(usage, dialect), Usage)


@pytest.mark.parametrize("example", CORPUS, ids=lambda each: f"{each['dialect']}: {each['why'][:40]}")
def test_an_example_comes_out_as_the_corpus_says(example: dict[str, Any]) -> None:
    assert openai_usage(example["raw"], example["dialect"]) == example["expected"]
    mark = counts_of(msgspec.convert(example["expected"], Usage), failed=False)[-1]
    assert mark == (CONTRADICTORY if "does not add up" in example["why"] else REGULAR)


def test_every_dialect_has_examples() -> None:
    assert {example["dialect"] for example in CORPUS} == set(DIALECTS)


@EXAMPLES
@given(COUNT, COUNT, COUNT, COUNT)
def test_anthropics_and_bedrocks_classes_are_charged_apart(
    plain: int | None, cached: int | None, written: int | None, output: int | None
) -> None:
    fields: list[tuple[Dialect, tuple[str, ...]]] = [
        (
            "anthropic",
            ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"),
        ),
        ("bedrock", ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")),
    ]
    for dialect, names in fields:
        found = read(dict(zip(names, (plain, cached, written, output), strict=True)), dialect)
        counts = counts_of(found, failed=False)
        quantities = quantities_of(counts)
        assert counts[-1] == REGULAR
        assert [quantities[name] for name in ("input", "cached_input", "cache_write", "output")] == [
            plain or 0,
            cached or 0,
            written or 0,
            output or 0,
        ]


@EXAMPLES
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_thoughts_are_charged_once_whether_or_not_they_are_counted(
    prompt: int, answer: int, thoughts: int, told: bool
) -> None:
    native = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": answer,
        "totalTokenCount": prompt + answer + thoughts,
    }
    compatible = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer + thoughts,
    }
    if told:
        native["thoughtsTokenCount"] = thoughts
        compatible["completion_tokens_details"] = {"reasoning_tokens": thoughts}  # type: ignore[assignment]
    for usage in (native, compatible):
        found = counts_of(read(usage, "gemini"), failed=False)
        assert (found[0], found[2], found[3], found[-1]) == (prompt, answer + thoughts, thoughts, REGULAR)


@EXAMPLES
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_the_worker_charges_xai_alike_with_and_without_the_function(
    prompt: int, completion: int, reasoning: int
) -> None:
    raw = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + reasoning,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    direct = counts_of(msgspec.convert(raw, Usage), failed=False)
    through = counts_of(read(raw, "xai"), failed=False)
    assert quantities_of(direct) == quantities_of(through)
    assert through[-1] == REGULAR


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_told_is_no_tokens(dialect: Dialect) -> None:
    assert quantities_of(counts_of(read({}, dialect), failed=False)) == dict.fromkeys(
        quantities_of(counts_of(Usage(0), failed=False)), 0
    )


def test_whole_numbers_may_come_as_floats() -> None:
    assert openai_usage({"inputTokens": 5.0, "outputTokens": 2}, "bedrock")["prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("usage", "dialect", "names"),
    [
        ({"input_tokens": -1}, "anthropic", "input_tokens"),
        ({"input_tokens": "5"}, "anthropic", "input_tokens"),
        ({"inputTokens": 1.5}, "bedrock", "inputTokens"),
        ({"promptTokenCount": True}, "gemini", "promptTokenCount"),
        ({"prompt_tokens": float("nan")}, "openai", "prompt_tokens"),
        ({}, "mistral", "dialect"),
    ],
)
def test_what_is_no_usage_is_refused_by_name(usage: Any, dialect: Any, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        openai_usage(usage, dialect)


@pytest.mark.parametrize("usage", [None, [], "usage", 5])
def test_what_is_no_object_is_refused(usage: Any) -> None:
    with pytest.raises(TypeError, match="mapping"):
        openai_usage(usage, "openai")


DOCS = Path(__file__).parents[4] / "docs" / "gateway.md"
_ROW = re.compile(r"\| (?:`(\w+)`)? ?\| .*?\| ?`(\{.*?\})` \| (prompt [\w, ]+) \|")
_FIELDS = {
    "prompt": ("prompt_tokens",),
    "completion": ("completion_tokens",),
    "cached": ("prompt_tokens_details", "cached_tokens"),
    "writes": ("prompt_tokens_details", "cache_write_tokens"),
    "reasoning": ("completion_tokens_details", "reasoning_tokens"),
}


def test_the_examples_of_the_manual_become_what_it_says() -> None:
    section = DOCS.read_text(encoding="utf-8").split("## Usage objects of providers")[1].split("\n## ")[0]
    found = _ROW.findall(section)
    assert {dialect for dialect, _, _ in found if dialect} == set(DIALECTS)
    last: Any = ""
    for dialect, raw, becomes in found:
        last = dialect or last
        made = openai_usage(json.loads(raw), last)
        told = dict(re.findall(r"(\w+) ([\d,]*\d)", becomes))
        for name, path in _FIELDS.items():
            count: Any = made
            for step in path:
                count = count[step]
            assert count == int(told.get(name, "0").replace(",", "")), f"{raw}: {name}"

"""What LiteLLM's answers say of their tokens, and its failures of their reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.gateway.proxying.answers import AnswerRead, failure_of, usage_of
from pipeline.usage import Usage, counts_of


def test_cache_writes_have_another_name_there() -> None:
    usage = {
        "prompt_tokens": 188_107,
        "completion_tokens": 393,
        "total_tokens": 188_500,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 188_086, "text_tokens": None},
        "cache_creation_input_tokens": 188_086,
    }
    found = usage_of({"usage": usage})
    counts = counts_of(msgspec.convert(found, Usage), failed=False)
    assert counts == (188_107, 0, 393, 0, (188_086, 0, 0), 0)


@pytest.mark.parametrize("answer", [None, b"data", {}, {"usage": None}, {"usage": {"prompt_tokens": -1}}])
def test_an_answer_without_usage(answer: Any) -> None:
    assert usage_of(answer) is None


def test_a_stream_has_the_usage_told_last() -> None:
    read = AnswerRead()
    for told in (
        None,
        {"prompt_tokens": 1, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 2},
    ):
        plain = {"choices": [{"delta": {"content": "a"}}, {"text": "b"}, {"delta": None}], "usage": told}
        read.add(plain, object())
    assert read.usage is not None
    assert read.usage["completion_tokens"] == 2
    assert (read.text, len(read.chunks)) == ("ababab", 3)


def test_a_usage_of_nothing_at_all_is_none() -> None:
    read = AnswerRead()
    message = {"choices": [{"message": {"content": "words"}}]}
    read.add({**message, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}, object())
    assert (read.usage, read.text) == (None, "words")


class _Failure(Exception):
    def __init__(self, status_code: object, code: object) -> None:
        super().__init__()
        self.status_code, self.code = status_code, code


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_Failure(429, "rate_limit_exceeded"), (429, "rate_limit_exceeded")),
        (_Failure(503, None), (503, "_Failure")),
        (_Failure(None, "504"), (504, "_Failure")),
        (_Failure(200, None), (500, "_Failure")),
        (_Failure(None, None), (500, "_Failure")),
        (ValueError(), (500, "ValueError")),
    ],
)
def test_a_failure_has_its_status_and_code(error: Exception, expected: tuple[int, str]) -> None:
    assert failure_of(error) == expected

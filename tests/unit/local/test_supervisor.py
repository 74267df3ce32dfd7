"""What the supervisor says of a part that is not ready: words for a person, whatever came."""

from __future__ import annotations

import pytest

from pipeline.local.supervisor import _what_is_not_ready


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b'{"kafka": "ok", "clickhouse": "does not answer", "sink": "is behind"}',
            "clickhouse does not answer, sink is behind",
        ),
        (b'{"kafka": "ok"}', "is not ready"),
        (b'{"error": {"code": "rate_limit_exceeded"}}', "is not ready"),
        (b"<html>", "is not ready"),
        (b"", "is not ready"),
    ],
)
def test_what_is_not_ready_is_told_in_words(answer: bytes, words: str) -> None:
    assert _what_is_not_ready(answer) == words

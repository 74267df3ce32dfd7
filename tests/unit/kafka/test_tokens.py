"""What becomes of a record of `metering.tokens` that the session secret did not sign."""

from __future__ import annotations

import logging

import pytest

from pipeline.kafka.tokens import to_tokens
from pipeline.token_book import TokenBook, TokenRecord, encode_token, hash_token, signed, token_text

SECRET = "a secret of the tests, long enough to sign with"
TEXT = token_text(b"x" * 24)
MADE = TokenRecord("tok_1", "org_1", "n", TEXT[:12], hash_token(TEXT), "n", "f", 5, 10)


def test_it_opens_nothing_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    book = TokenBook(SECRET, lambda: 7)
    subscription = to_tokens(book)
    with caplog.at_level(logging.WARNING):
        for secret in ("", "another secret", "a third secret"):
            subscription.put(b"", encode_token(signed(MADE, secret)))
    assert book.in_force(TEXT) is None
    assert len(caplog.records) == 1 and "tok_1 of org_1 is not signed" in caplog.text
    subscription.put(b"", encode_token(signed(MADE, SECRET)))
    assert book.in_force(TEXT) is not None and len(caplog.records) == 1
    subscription.delete(MADE.topic_key)
    assert book.in_force(TEXT) is None

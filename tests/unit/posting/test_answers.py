"""Answers that are kept for the repetition of their commands: for a day, whatever comes between, and boundedly many."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.accounts.commands import CreateKey, OpenOrder, Reply, SetThreshold, SignUp, decode_reply
from pipeline.accounts.model import RememberedAnswer
from pipeline.ist import DAY_MS
from pipeline.outcomes import RefusalCode
from pipeline.posting import answers
from pipeline.posting.answers import ANSWERS_AN_ORG, KeyedAnswers
from tests.support.builders import NOW_MS, Books, everything

ORG = "org_1"


def keyed(number: int, threshold_nano: int = 5, org: str = ORG) -> SetThreshold:
    """Return a command that came with an idempotency key."""
    return SetThreshold(f"key_{number:048x}", org, threshold_nano, fingerprint=str(threshold_nano))


def reply(books: Books, command: Any, at_ms: int = NOW_MS) -> Reply:
    """Return what a command is answered."""
    [value] = books.send(command, at_ms=at_ms).replies
    return decode_reply(value)


@pytest.mark.parametrize("restored", [False, True])
def test_a_key_holds_for_a_day_whatever_comes_between(restored: bool) -> None:
    books = Books()
    key = CreateKey("key_mine", ORG, "key_1", "laptop", "br-abc", "00", nonce="n1", fingerprint="f")
    first = reply(books, key)
    for number in range(300):
        at_ms = NOW_MS + number
        assert (
            reply(books, SetThreshold(f"cmd_{number}", ORG, number, fingerprint="t"), at_ms).refusal is None
        )
        assert reply(books, keyed(number), at_ms).refusal is None
    if restored:
        books.state = books.restore()
    again = CreateKey("key_mine", ORG, "key_2", "laptop", "br-xyz", "11", nonce="n2", fingerprint="f")
    last_ms = NOW_MS + DAY_MS - 1
    assert bytes(reply(books, again, last_ms).result) == bytes(first.result)
    assert set(books.state.account(ORG).profile.keys) == {"key_1"}
    other = reply(books, CreateKey("key_mine", ORG, "key_3", "b", "br-", "22", fingerprint="g"), last_ms)
    assert other.refusal is not None and other.refusal.param == "Idempotency-Key"


def test_after_a_day_it_is_let_go_of_and_its_record_deleted() -> None:
    books = Books()
    reply(books, keyed(1))
    reply(books, keyed(2), NOW_MS + 1)
    assert [key for key in books.topic if key[:1] == answers.MARK] == list(books.state.answers.records())
    # Another org's unit does it: nothing has to come from this one.
    books.send(SignUp("s", "org_2", "B", "b@example.in"), at_ms=NOW_MS + DAY_MS)
    assert len(books.state.answers) == 1
    assert [key for key in books.topic if key[:1] == answers.MARK] == list(books.state.answers.records())
    assert everything(books.restore()) == everything(books.state)
    assert reply(books, keyed(1, 7), NOW_MS + DAY_MS).refusal is None
    assert books.state.account(ORG).profile.threshold_nano == 7


@pytest.mark.parametrize("restored", [False, True])
def test_beyond_a_number_new_keys_of_an_org_are_refused_and_the_old_ones_hold(restored: bool) -> None:
    books = Books()
    for number in range(ANSWERS_AN_ORG):
        assert reply(books, keyed(number), NOW_MS + number).refusal is None
    if restored:
        books.state = books.restore()
    refusal = reply(books, keyed(10**6, 9), NOW_MS + 1_000).refusal
    assert refusal is not None and refusal.code is RefusalCode.RATE_LIMIT_EXCEEDED
    assert refusal.retry_after_s == DAY_MS // 1000 - 1 and str(ANSWERS_AN_ORG) in refusal.message
    assert books.state.account(ORG).profile.threshold_nano == 5
    # What was answered still is, what has no key is carried out, and so is another org's.
    assert reply(books, keyed(0), NOW_MS + 1_000).refusal is None
    assert reply(books, SetThreshold("cmd_1", ORG, 9, fingerprint="t"), NOW_MS + 1_000).refusal is None
    assert reply(books, keyed(1, org="org_2"), NOW_MS + 1_000).refusal is None
    # An order that Razorpay has made is recorded.
    order = OpenOrder(f"key_{10**6:048x}.open", ORG, "order_1", 10_000, fingerprint="o")
    assert reply(books, order, NOW_MS + 1_000).refusal is None
    # It counts as well: the second of the others has to end too before there is room again.
    refusal = reply(books, keyed(10**6, 9), NOW_MS + 1_001).refusal
    assert refusal is not None and refusal.retry_after_s == DAY_MS // 1000 - 1
    assert reply(books, keyed(10**6, 9), NOW_MS + DAY_MS).refusal is not None
    assert reply(books, keyed(10**6, 9), NOW_MS + DAY_MS + 1).refusal is None


def test_a_partition_keeps_so_many_bytes_and_refuses_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "BYTES_MAX", 2_000)
    books, taken = Books(), 0
    while (refusal := reply(books, keyed(taken, org=f"org_{taken}"), NOW_MS + taken).refusal) is None:
        taken += 1
    assert 3 <= taken <= 5
    assert (refusal.code, refusal.retry_after_s) == (RefusalCode.UNAVAILABLE, DAY_MS // 1000)
    for number in range(taken):
        assert reply(books, keyed(number, org=f"org_{number}"), NOW_MS + taken).refusal is None


def test_an_account_is_no_larger_for_its_answers() -> None:
    books = Books()
    reply(books, keyed(1))
    before = len(books.topic[b"p" + ORG.encode()])
    for number in range(2, 200):
        reply(books, keyed(number))
    assert len(books.topic[b"p" + ORG.encode()]) == before < 1_000


def test_what_an_answer_is_counted_for_covers_what_it_takes() -> None:
    """Measured: as many answers as fit, each the size of a new key's, in a process's memory."""
    import tracemalloc

    result = msgspec.json.encode({"key_id": "key_0123456789abcdef", "version": 1, "nonce": "a" * 32})
    tracemalloc.start()
    try:
        kept = KeyedAnswers()
        for number in range(5_000):
            kept.add(f"org_{number % 50}", RememberedAnswer(f"key_{number:048x}", "f" * 32, NOW_MS, result))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= kept._bytes

"""The code on a command: only holders of the key make it, for these bytes, this partition and this time."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from pipeline.accounts.authentication import MAC_AGE_MAX_MS, CommandKeys

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32
VALUE, PARTITION, AT_MS = b'{"kind":"credit"}', 3, 1_781_289_000_123
KEYS = CommandKeys.parse(NEW)


def _headers(key: str = NEW) -> list[tuple[str, bytes]]:
    return CommandKeys.parse(key).headers(VALUE, PARTITION, AT_MS)


def test_the_code_is_hmac_sha256_over_topic_partition_time_and_bytes() -> None:
    covered = b"metering.billing\0" + b"\0\0\0\3" + AT_MS.to_bytes(8, "big") + VALUE
    code = hmac.new(NEW.encode(), covered, hashlib.sha256).hexdigest()
    assert _headers() == [("mac", f"1.{AT_MS}.{code}".encode())]
    assert KEYS.problem(_headers(), VALUE, PARTITION, AT_MS) is None


@pytest.mark.parametrize(
    ("headers", "value", "partition", "told"),
    [
        ([], VALUE, PARTITION, "carries no header 'mac'"),
        (_headers() * 2, VALUE, PARTITION, "not of a form"),
        ([("mac", b"1.5." + b"0" * 63)], VALUE, PARTITION, "not of a form"),
        ([("mac", b"2" + _headers()[0][1][1:])], VALUE, PARTITION, "not of a form"),
        (_headers(OTHER), VALUE, PARTITION, "another key"),
        (_headers(), VALUE + b" ", PARTITION, "other bytes"),
        (_headers(), VALUE, PARTITION + 1, "another partition"),
    ],
)
def test_what_no_holder_of_the_key_made_is_refused(
    headers: list[tuple[str, bytes]], value: bytes, partition: int, told: str
) -> None:
    assert told in str(KEYS.problem(headers, value, partition, AT_MS))


def test_the_time_is_covered_too() -> None:
    _, code = _headers()[0]
    later = code.replace(str(AT_MS).encode(), str(AT_MS + 1).encode())
    assert "another key" in str(KEYS.problem([("mac", later)], VALUE, PARTITION, AT_MS))


@pytest.mark.parametrize("apart_ms", [MAC_AGE_MAX_MS, -MAC_AGE_MAX_MS])
def test_a_command_that_is_written_again_later_is_refused(apart_ms: int) -> None:
    further_ms = apart_ms + (1 if apart_ms > 0 else -1)
    assert KEYS.problem(_headers(), VALUE, PARTITION, AT_MS + apart_ms) is None
    assert "600 s either way" in str(KEYS.problem(_headers(), VALUE, PARTITION, AT_MS + further_ms))


def test_the_first_of_two_keys_signs_and_both_are_accepted() -> None:
    both = CommandKeys.parse(f"{NEW}, {OLD}")
    assert both.headers(VALUE, PARTITION, AT_MS) == _headers(NEW)
    for key in (NEW, OLD):
        assert both.problem(_headers(key), VALUE, PARTITION, AT_MS) is None
    assert both.problem(_headers(OTHER), VALUE, PARTITION, AT_MS) is not None


@pytest.mark.parametrize("text", ["", ",", "a,", "a,b,c"])
def test_anything_but_one_key_or_two_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one key, or two"):
        CommandKeys.parse(text)


def test_keys_are_never_printed() -> None:
    assert NEW not in repr(KEYS)

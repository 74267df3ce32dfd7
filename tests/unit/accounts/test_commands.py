"""Commands and replies as bytes."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from pipeline.accounts.commands import (
    AnyCommand,
    ChangeKey,
    CommandRefusal,
    Reply,
    decode_command,
    decode_reply,
    encode,
)
from pipeline.outcomes import RefusalCode
from tests.support.builders import EXAMPLES
from tests.support.commands import COMMANDS


@pytest.mark.parametrize("command", COMMANDS, ids=repr)
def test_a_command_comes_back(command: AnyCommand) -> None:
    assert decode_command(encode(command)) == command


def test_what_is_not_given_stays_apart_from_none() -> None:
    command = decode_command(encode(ChangeKey("1", "org", "k", budget_nano=None)))
    assert isinstance(command, ChangeKey)
    assert (command.budget_nano, command.daily_limit) == (None, UNSET)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"kind":"credit"}',
        b'{"kind":"rob","id":"1","org":"o"}',
        b'{"kind":"view","id":"","org":"o"}',
        b'{"kind":"view","id":"1","org":"' + b"o" * 129 + b'"}',
        b'{"kind":"view","id":"1","org":"\\ud800"}',
        b'{"kind":"credit","id":"1","org":"o","reason":"r","amount_nano":1.5}',
        b'{"kind":"credit","id":"1","org":"o","reason":"r","amount_nano":1' + b"0" * 30 + b"}",
        b'{"kind":"credit","id":"1","org":"o","reason":"r","amount_nano":1' + b"0" * 9000 + b"}",
        b'{"kind":"barrier","id":"1","catalog_offset":9223372036854775808}',
        b'{"kind":"change_key","id":"1","org":"o","key_id":"k","expires_ms":-1' + b"0" * 30 + b"}",
        json.dumps({**json.loads(encode(COMMANDS[1])), "nonce": "x" * 257}).encode(),
        json.dumps({**json.loads(encode(COMMANDS[1])), "hash": "x" * 1_000_000}).encode(),
        json.dumps({**json.loads(encode(COMMANDS[0])), "fingerprint": "x" * 257}).encode(),
        b'{"x":' * 100_000,
    ],
    ids=lambda value: repr(value)[:60],
)
def test_bytes_that_are_no_command_say_why(value: bytes | None) -> None:
    why = decode_command(value)
    assert isinstance(why, str)
    assert why


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_a_text(value: bytes) -> None:
    assert isinstance(decode_command(value), str | msgspec.Struct)


@pytest.mark.parametrize(
    "reply",
    [
        Reply("1", result=Raw(b'{"a":[1]}')),
        Reply("1", refusal=CommandRefusal(RefusalCode.FORBIDDEN, "no", "param")),
    ],
)
def test_a_reply_comes_back(reply: Reply) -> None:
    found = decode_reply(encode(reply))
    assert (found.id, bytes(found.result), found.refusal) == (reply.id, bytes(reply.result), reply.refusal)

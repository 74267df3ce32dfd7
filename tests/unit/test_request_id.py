"""Which texts may be a request's id, and how one travels beside a command."""

from __future__ import annotations

import pytest

from pipeline import request_id
from pipeline.request_id import HEADER, carried, is_request_id


@pytest.mark.parametrize("text", ["a" * 8, "a" * 64, "Req_2026-06-12", "0123456789abcdef0123456789abcdef"])
def test_an_id_is_of_a_bounded_length_and_a_small_alphabet(text: str) -> None:
    assert is_request_id(text)


@pytest.mark.parametrize(
    "text", ["", "a" * 7, "a" * 65, "with space", "line\nbreak-1", "abcdefgh\n", "क" * 8, 'a"bcdefgh']
)
def test_what_could_break_a_line_or_fill_a_log_is_no_id(text: str) -> None:
    assert not is_request_id(text)


def test_the_current_id_is_carried_and_read_again_from_a_records_headers() -> None:
    assert request_id.headers() == []
    mine = request_id.current.set("request-77")
    try:
        assert carried([("mac", b"1"), *request_id.headers()]) == "request-77"
    finally:
        request_id.current.reset(mine)


@pytest.mark.parametrize("value", [None, b"", b"short", b"two\nlines of it", b"\xff" * 9])
def test_whatever_else_a_header_of_that_name_holds_is_left_alone(value: bytes | None) -> None:
    """It is no part of what shows who sent a command, so anybody who may write the topic can make one up."""
    assert carried([(HEADER, value)]) is None
    assert carried([]) is None

"""The ids that keys become."""

from __future__ import annotations

import pytest

from pipeline.accounts.commands import CommandRefusal, SetThreshold, is_keyed
from pipeline.api.http.errors import ApiError, answer
from pipeline.api.http.errors import refused as refused_by
from pipeline.api.http.idempotency import command_id, fingerprint
from pipeline.outcomes import RefusalCode


def test_a_key_means_one_command_of_one_org_and_route() -> None:
    ids = {command_id(org, route, key) for org in "ab" for route in "rs" for key in "kl"}
    assert len(ids) == 8 and max(map(len, ids)) < 100
    assert command_id("a", "r", "k") == command_id("a", "r", "k")
    assert command_id("ab", "r", "k") != command_id("a", "br", "k")
    assert command_id("a", "r", None) != command_id("a", "r", None)


def test_the_owner_knows_which_commands_came_with_a_key() -> None:
    for key, expected in (("k", True), (None, False)):
        assert is_keyed(SetThreshold(command_id("a", "r", key), "a", 5)) is expected


def test_a_refusal_that_ends_with_time_says_when() -> None:
    told = answer(refused_by(CommandRefusal(RefusalCode.RATE_LIMIT_EXCEEDED, "no", retry_after_s=7)), None)
    assert (told.status_code, told.headers["retry-after"]) == (429, "7")
    assert "retry-after" not in answer(refused_by(CommandRefusal(RefusalCode.NOT_FOUND, "no")), None).headers


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "ü", "\x7f"])
def test_a_key_is_printable_ascii(key: str) -> None:
    with pytest.raises(ApiError) as refused:
        command_id("a", "r", key)
    assert refused.value.param == "Idempotency-Key"


def test_a_fingerprint_tells_requests_apart() -> None:
    assert fingerprint(1, None) == fingerprint(1, None)
    assert (
        len({fingerprint(1, None), fingerprint("1", None), fingerprint(1, ""), fingerprint([1], None)}) == 4
    )

"""The ids that keys become."""

from __future__ import annotations

import pytest

from pipeline.api.http.errors import ApiError
from pipeline.api.http.idempotency import command_id, fingerprint


def test_a_key_means_one_command_of_one_org_and_route() -> None:
    ids = {command_id(org, route, key) for org in "ab" for route in "rs" for key in "kl"}
    assert len(ids) == 8 and max(map(len, ids)) < 100
    assert command_id("a", "r", "k") == command_id("a", "r", "k")
    assert command_id("ab", "r", "k") != command_id("a", "br", "k")
    assert command_id("a", "r", None) != command_id("a", "r", None)


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

"""What an org may set: its address and its threshold."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.accounts.commands import CommandRefusal, SetAddress, SetThreshold
from pipeline.accounts.decide import decide
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account
from pipeline.accounts.results import Result
from pipeline.money import MAX_RUPEES
from tests.support.builders import NOW_MS


def _set(**changes: Any) -> Posting[Result] | CommandRefusal:
    fields: dict[str, Any] = {
        "name": "Asha",
        "line1": "12 MG Road",
        "city": "Bengaluru",
        "state": "Karnataka",
        "pin": "560001",
    }
    return decide(Account("org"), SetAddress("1", "org", **{**fields, **changes}), NOW_MS)


def test_an_address_is_kept_tidy() -> None:
    posting = _set(name="  Asha   Stores ", pin=" 560001 ", gstin="29abcde1234f1z5", line2="Near\tthe lake")
    assert isinstance(posting, Posting) and posting.profile is not None
    address = posting.profile.address
    assert address is not None
    assert (address.name, address.pin, address.gstin) == ("Asha Stores", "560001", "29ABCDE1234F1Z5")
    assert address.line2 == "Near the lake"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("line1", ""),
        ("city", ""),
        ("state", " "),
        ("pin", "56000"),
        ("pin", "5600011"),
        ("pin", "056001"),
        ("pin", "५६०००१"),
        ("pin", "56000a"),
        ("gstin", "29ABCDE1234F1A5"),
        ("gstin", "x"),
        ("line1", "a" * 121),
        ("name", "a\x00b"),
        ("city", "a\u202eb"),
    ],
)
def test_what_is_wrong_is_named(field: str, value: str) -> None:
    refusal = _set(**{field: value})
    assert isinstance(refusal, CommandRefusal)
    assert (refusal.code, refusal.param) == ("invalid_request", field)


@pytest.mark.parametrize("gstin", [None, "", "  "])
def test_a_gstin_may_be_absent(gstin: str | None) -> None:
    posting = _set(gstin=gstin)
    assert isinstance(posting, Posting) and posting.profile and posting.profile.address
    assert posting.profile.address.gstin is None


@pytest.mark.parametrize("threshold_nano", [-1, MAX_RUPEES * 10**9 + 1])
def test_a_threshold_has_bounds(threshold_nano: int) -> None:
    refusal = decide(Account("org"), SetThreshold("1", "org", threshold_nano), NOW_MS)
    assert isinstance(refusal, CommandRefusal) and refusal.param == "threshold_inr"


@pytest.mark.parametrize("threshold_nano", [None, 0, 1, MAX_RUPEES * 10**9])
def test_a_threshold_is_set_and_cleared(threshold_nano: int | None) -> None:
    posting = decide(Account("org"), SetThreshold("1", "org", threshold_nano), NOW_MS)
    assert isinstance(posting, Posting) and posting.profile is not None
    assert posting.profile.threshold_nano == threshold_nano


@pytest.mark.parametrize("line2", [None, "", "Near the lake"])
def test_a_second_line_is_as_it_was_given(line2: str | None) -> None:
    posting = _set(line2=line2)
    assert isinstance(posting, Posting) and posting.profile and posting.profile.address
    assert posting.profile.address.line2 == line2

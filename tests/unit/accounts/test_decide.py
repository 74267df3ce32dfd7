"""What commands do to an account."""

from __future__ import annotations

import pytest
from msgspec import structs

from pipeline import ist
from pipeline.accounts.commands import CommandRefusal, Credit, SignUp, View
from pipeline.accounts.decide import (
    SIGNUP_CREDIT_NANO,
    answered_before,
    decide,
    with_answer,
)
from pipeline.accounts.ledger import CREDITED_MAX_NANO, Posting, charge
from pipeline.accounts.model import ANSWERS_KEPT, Account, Key, Profile, RememberedAnswer, Spending
from pipeline.accounts.results import AccountView, CreditPosted, SignedUp
from pipeline.money import MAX_RUPEES, NANO_PER_RUPEE
from tests.support.builders import NOW_MS

SIGN_UP = SignUp(id="1", org="org", name="A", email="a@example.in")


def credit(amount_nano: int, command_id: str = "1") -> Credit:
    """Return an operator's credit."""
    return Credit(id=command_id, org="org", amount_nano=amount_nano, reason="because")


def test_signing_up_credits_a_hundred_rupees_once() -> None:
    account = Account("org")
    posting = decide(account, SIGN_UP, NOW_MS)
    assert isinstance(posting, Posting)
    [entry] = posting.entries
    assert (entry.kind, entry.amount_nano) == (
        "promo",
        100 * NANO_PER_RUPEE == SIGNUP_CREDIT_NANO and 100 * 10**9,
    )
    assert posting.profile == Profile(name="A", email="a@example.in", signed_up_ms=NOW_MS)
    account.profile = posting.profile
    again = decide(account, structs.replace(SIGN_UP, id="2"), NOW_MS + 1)
    assert again == Posting(SignedUp("org", signed_up=False))


def test_an_org_that_was_charged_before_it_signed_up_gets_its_credit_too() -> None:
    account = charge(Account("org"), "k", trial=False, day=0, cost_nano=7)
    posting = decide(account, SIGN_UP, NOW_MS)
    assert isinstance(posting, Posting)
    assert [entry.amount_nano for entry in posting.entries] == [SIGNUP_CREDIT_NANO]


@pytest.mark.parametrize("amount_nano", [1, -1, MAX_RUPEES * NANO_PER_RUPEE, -MAX_RUPEES * NANO_PER_RUPEE])
def test_an_operator_credits_or_corrects_with_a_reason(amount_nano: int) -> None:
    posting = decide(Account("org", Spending(debited_nano=5)), credit(amount_nano), NOW_MS)
    assert isinstance(posting, Posting)
    [entry] = posting.entries
    assert (entry.kind, entry.amount_nano, entry.note) == ("correction", amount_nano, "because")
    assert posting.result == CreditPosted("org", amount_nano - 5)


@pytest.mark.parametrize("amount_nano", [0, MAX_RUPEES * NANO_PER_RUPEE + 1, -(2**63), 2**63 - 1])
def test_an_absurd_amount_is_refused(amount_nano: int) -> None:
    refusal = decide(Account("org"), credit(amount_nano), NOW_MS)
    assert isinstance(refusal, CommandRefusal)
    assert (refusal.code, refusal.param) == ("invalid_request", "amount_inr")


@pytest.mark.parametrize("sign", [1, -1])
def test_credits_cannot_add_up_beyond_what_the_books_hold(sign: int) -> None:
    largest = sign * MAX_RUPEES * NANO_PER_RUPEE
    account = Account("org")
    for n in range(4):
        assert isinstance(decide(account, credit(largest, str(n)), NOW_MS), Posting)
        account.spending.credited_nano += largest
    assert abs(account.spending.credited_nano) == CREDITED_MAX_NANO
    assert isinstance(decide(account, credit(sign), NOW_MS), CommandRefusal)
    assert isinstance(decide(account, credit(-sign), NOW_MS), Posting)


def test_a_view_shows_the_account_and_never_a_hash() -> None:
    key = Key("k", "ci", "br-abc", "secret hash", "standard", 0, budget_nano=9)
    account = Account(
        "org", Spending(credited_nano=50, entry_id=77), Profile("A", "a@example.in", 1, {"k": key})
    )
    charge(account, "k", trial=False, day=ist.day_of(NOW_MS), cost_nano=4)
    charge(account, "k", trial=False, day=ist.day_of(NOW_MS) - 20, cost_nano=3)
    posting = decide(account, View(id="v", org="org"), NOW_MS)
    assert isinstance(posting, Posting)
    assert (posting.entries, posting.profile, posting.keys) == ((), None, ())
    result = posting.result
    assert isinstance(result, AccountView)
    assert (result.balance_nano, result.entry_id, result.signed_up) == (43, 77, True)
    [shown] = result.keys
    assert (shown.spent_this_month_nano, shown.requests_today) == (4, 1)
    assert "secret hash" not in str(result)


class TestAnswers:
    answer = RememberedAnswer("1", "फ़िंगरप्रिंट", NOW_MS, b'{"a":1}')
    account = Account("org", decoded_profile=Profile(answers=[answer]))

    def test_the_same_command_gets_the_same_answer(self) -> None:
        same = structs.replace(credit(5), fingerprint="फ़िंगरप्रिंट")
        assert answered_before(self.account, same) == b'{"a":1}'

    @pytest.mark.parametrize("fingerprint", ["", "é", "other"])
    def test_an_id_that_served_another_command_is_refused(self, fingerprint: str) -> None:
        refusal = answered_before(self.account, structs.replace(credit(5), fingerprint=fingerprint))
        assert isinstance(refusal, CommandRefusal)
        assert refusal.param == "Idempotency-Key"

    def test_a_new_id_was_not_answered(self) -> None:
        assert answered_before(self.account, credit(5, "2")) is None

    def test_a_view_is_never_answered_from_memory(self) -> None:
        assert answered_before(self.account, View(id="1", org="org")) is None

    def test_the_newest_answers_are_kept(self) -> None:
        profile = Profile()
        for n in range(ANSWERS_KEPT + 9):
            profile = with_answer(profile, RememberedAnswer(str(n), "", n, b"1"))
        assert [a.command_id for a in profile.answers] == [str(n) for n in range(9, ANSWERS_KEPT + 9)]

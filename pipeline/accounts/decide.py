"""Decide what a command does to an account.

Owns: `decide`, the one entrance for commands, and the idempotence of their answers.
Called by: `posting/commands.py`. Next: `accounts/ledger.py` applies the posting, `accounts/verdicts.py`
tells the gateways.
"""

from __future__ import annotations

from typing import assert_never

from msgspec import Raw, structs

from pipeline import ist
from pipeline.accounts import addresses, captures, keys, orders, refunds
from pipeline.accounts.commands import (
    AccountCommand,
    Capture,
    ChangeKey,
    CheckPromo,
    CreateKey,
    Credit,
    Fail,
    Find,
    OpenOrder,
    PrepareOrder,
    Question,
    Refusal,
    SetAddress,
    SetThreshold,
    SignUp,
    TakeRefund,
    View,
    is_remembered,
)
from pipeline.accounts.ledger import CREDITED_MAX_NANO, Entry, Posting
from pipeline.accounts.model import ANSWERS_KEPT, Account, Answer, Profile
from pipeline.accounts.payments import NOTHING, Known, payment_shown
from pipeline.money import MAX_RUPEES, NANO_PER_RUPEE

BillingCommand = (
    SetAddress | SetThreshold | CheckPromo | PrepareOrder | OpenOrder | Capture | Fail | TakeRefund | Find
)

SIGNUP_CREDIT_NANO = 100 * NANO_PER_RUPEE


def decide(
    account: Account, command: AccountCommand, at_ms: int, known: Known = NOTHING
) -> Posting | Refusal:
    """Return what a command does to an account at an instant, or why it does nothing.

    `known` holds the order, payment, refund and promo that the command names.
    """
    match command:
        case SignUp():
            return _sign_up(account, command, at_ms)
        case CreateKey():
            return keys.create(account, command, at_ms)
        case ChangeKey():
            return keys.change(account, command, at_ms)
        case Credit():
            return _credit(account, command)
        case View():
            return Posting(_view(account, at_ms))
        case _:
            return _decide_billing(account, command, at_ms, known)


def _decide_billing(  # noqa: PLR0911 - one case a command
    account: Account, command: BillingCommand, at_ms: int, known: Known
) -> Posting | Refusal:
    match command:
        case SetAddress():
            return addresses.set_address(account, command)
        case SetThreshold():
            return addresses.set_threshold(account, command)
        case CheckPromo():
            return orders.check_promo(account, command, at_ms, known)
        case PrepareOrder():
            return orders.prepare(account, command, at_ms, known)
        case OpenOrder():
            return orders.open_order(account, command, at_ms, known)
        case Capture():
            return captures.capture(account, command, at_ms, known)
        case Fail():
            return captures.fail(account, command, known)
        case TakeRefund():
            return refunds.refund(account, command, known)
        case Find():
            return Posting(_found(account, command, known))
    assert_never(command)


def answered_before(account: Account, command: AccountCommand) -> bytes | Refusal | None:
    """Return what the same command was answered earlier; a refusal where its id served another one."""
    if isinstance(command, Question) or not is_remembered(command):
        return None
    for answer in account.profile.answers:
        if answer.command_id == command.id:
            if answer.fingerprint == command.fingerprint:
                return answer.result
            return Refusal(
                "invalid_request", "this Idempotency-Key was used for another request", "Idempotency-Key"
            )
    return None


def with_answer(profile: Profile, answer: Answer) -> Profile:
    """Return the profile remembering one more answer, the oldest dropped beyond a number."""
    return structs.replace(profile, answers=[*profile.answers[-(ANSWERS_KEPT - 1) :], answer])


def _sign_up(account: Account, command: SignUp, at_ms: int) -> Posting:
    profile = account.profile
    if profile.signed_up_ms is not None:
        return Posting({"org": account.org, "signed_up": False})
    signed_up = structs.replace(profile, name=command.name, email=command.email, signed_up_ms=at_ms)
    credit = Entry("promo", SIGNUP_CREDIT_NANO, note="signup credit")
    return Posting({"org": account.org, "signed_up": True}, entries=(credit,), profile=signed_up)


def _credit(account: Account, command: Credit) -> Posting | Refusal:
    if command.amount_nano == 0 or abs(command.amount_nano) > MAX_RUPEES * NANO_PER_RUPEE:
        return Refusal("invalid_request", "the amount is zero or out of range", "amount_inr")
    if abs(account.spending.credited_nano + command.amount_nano) > CREDITED_MAX_NANO:
        return Refusal("invalid_request", "the account's credits would be out of range", "amount_inr")
    balance_nano = account.spending.balance_nano + command.amount_nano
    entry = Entry("correction", command.amount_nano, note=command.reason)
    return Posting({"org": account.org, "balance_nano": balance_nano}, entries=(entry,))


def _view(account: Account, at_ms: int) -> dict[str, object]:
    """Return the account as its members may see it; amounts in nano-rupees."""
    month, day = ist.month_of(at_ms), ist.day_of(at_ms)
    shown = []
    for key in account.profile.keys.values():
        usage = account.spending.keys.get(key.key_id)
        shown.append(
            {
                **{f: v for f, v in structs.asdict(key).items() if f != "hash"},
                "spent_this_month_nano": usage.months.get(month, 0) if usage else 0,
                "requests_today": usage.days.get(day, 0) if usage else 0,
            }
        )
    return {
        "org": account.org,
        "name": account.profile.name,
        "email": account.profile.email,
        "signed_up": account.profile.signed_up_ms is not None,
        "balance_nano": account.spending.balance_nano,
        "entry_id": account.spending.entry_id,
        "threshold_nano": account.profile.threshold_nano,
        "address": structs.asdict(account.profile.address) if account.profile.address else None,
        "keys": shown,
    }


def _found(account: Account, command: Find, known: Known) -> dict[str, object]:
    """Return what is known of the order and the payment asked for, where they are the org's own."""
    order, payment = known.order, known.payment
    answers = [a.result for a in account.profile.answers if a.command_id == command.answered]
    return {
        "balance_nano": account.spending.balance_nano,
        "order": structs.asdict(order) if order and order.org == account.org else None,
        "answer": Raw(answers[0]) if answers else None,
        "payment": payment_shown(payment) if payment and payment.org == account.org else None,
    }

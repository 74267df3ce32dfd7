"""Decide what a command does to an account.

Owns: `decide`, the one entrance for commands; `known_of`, which records each command has to be decided with;
and the idempotence of the answers.
Called by: `posting/commands.py`. Next: `accounts/ledger.py` applies the posting, `accounts/verdicts.py`
makes the verdict that gateways then need.
"""

from __future__ import annotations

from typing import Protocol, assert_never

from msgspec import Raw, structs

from pipeline import ist
from pipeline.accounts import (
    addresses,
    captures,
    corrections,
    disputes,
    keys,
    notice_choices,
    orders,
    refunds,
)
from pipeline.accounts.commands import (
    AccountCommand,
    AnyAccountCommand,
    ByPayment,
    Capture,
    ChangeKey,
    CheckPromo,
    CommandRefusal,
    CreateKey,
    Credit,
    Fail,
    Find,
    OpenOrder,
    PrepareOrder,
    Question,
    R,
    SetAddress,
    SetNotices,
    SetThreshold,
    SetWebhook,
    SignUp,
    TakeDispute,
    TakeRefund,
    TellUnusualHour,
    View,
    is_remembered,
)
from pipeline.accounts.ledger import LedgerEntry, Posting
from pipeline.accounts.model import ANSWERS_KEPT, Account, Profile, RememberedAnswer
from pipeline.accounts.names import name_or_refusal
from pipeline.accounts.notices import Told
from pipeline.accounts.payments import NOTHING, Dispute, Known, NamedCredit, Order, Payment, Refund
from pipeline.accounts.promos import PromoTable
from pipeline.accounts.results import (
    AccountView,
    Found,
    KeyView,
    Result,
    SignedUp,
    view_of_address,
    view_of_order,
    view_of_payment,
)
from pipeline.money import NANO_PER_RUPEE
from pipeline.outcomes import LedgerKind, RefusalCode

BillingCommand = (
    SetAddress
    | SetThreshold
    | SetNotices
    | SetWebhook
    | CheckPromo
    | PrepareOrder
    | OpenOrder
    | ByPayment
    | Find
)

SIGNUP_CREDIT_NANO = 100 * NANO_PER_RUPEE


class MoneyRecords(Protocol):
    """Where the small records of money are found by their ids; None for one that is not there."""

    def order(self, order_id: str) -> Order | None:
        """Return an order."""

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment."""

    def refund(self, refund_id: str) -> Refund | None:
        """Return a refund."""

    def dispute(self, dispute_id: str) -> Dispute | None:
        """Return a dispute."""

    def named_credit(self, command_id: str) -> NamedCredit | None:
        """Return an operator's credit by its command's id."""

    def answer(self, org: str, command_id: str) -> RememberedAnswer | None:
        """Return what a command of an org that may be repeated for a day was answered."""

    def told(self, org: str) -> Told:
        """Return what an org was told already."""

    def next_id(self) -> int:
        """Return the id that the next row of the journal takes."""


def known_of(  # noqa: PLR0911 - one case a command
    command: AnyAccountCommand, records: MoneyRecords, promos: PromoTable
) -> Known:
    """Return what is known of the order, payment, refund and promo that a command names."""
    match command:
        case CheckPromo():
            return Known(promo=promos.get(command.code))
        case PrepareOrder():
            return Known(promo=promos.get(command.promo_code))
        case OpenOrder():
            return Known(order=records.order(command.order_id))
        case Capture() | Fail() | TakeRefund() | TakeDispute():
            return _known_of_payment(command, records, promos)
        case Credit():
            return Known(
                refund=records.refund(command.refund_id) if command.refund_id else None,
                credit=records.named_credit(command.id),
            )
        case Find():
            return Known(
                order=records.order(command.order_id) if command.order_id else None,
                payment=records.payment(command.payment_id) if command.payment_id else None,
                answer=records.answer(command.org, command.answered) if command.answered else None,
            )
        case View():
            return Known(next_id=records.next_id())
        case (
            SignUp() | CreateKey() | ChangeKey() | SetAddress() | SetThreshold() | SetNotices() | SetWebhook()
        ):
            return NOTHING
        case TellUnusualHour():
            return Known(told=records.told(command.org))
    assert_never(command)


def _known_of_payment(command: ByPayment, records: MoneyRecords, promos: PromoTable) -> Known:
    """Return what is known of what a message about a payment names."""
    match command:
        case Capture():
            order = records.order(command.order_id)
            ordered = order or command.order
            promo = promos.get(ordered.promo_code) if ordered else None
            return Known(order, records.payment(command.payment_id), promo=promo)
        case Fail():
            return Known(payment=records.payment(command.payment_id))
        case TakeRefund():
            return Known(
                payment=records.payment(command.payment_id), refund=records.refund(command.refund_id)
            )
        case TakeDispute():
            return Known(
                payment=records.payment(command.payment_id), dispute=records.dispute(command.dispute_id)
            )
    assert_never(command)


def decide(  # noqa: PLR0911 - one case a command
    account: Account, command: AnyAccountCommand, at_ms: int, known: Known = NOTHING
) -> Posting[Result] | CommandRefusal:
    """Return what a command does to an account at an instant, or why it does nothing.

    `known` is what `known_of` says of the command.
    """
    match command:
        case SignUp():
            return _typed(command, _sign_up(account, command, at_ms))
        case CreateKey():
            return _typed(command, keys.create(account, command, at_ms))
        case ChangeKey():
            return _typed(command, keys.change(account, command, at_ms))
        case Credit():
            return _typed(command, corrections.credit(account, command, known))
        case TellUnusualHour():
            return _typed(command, notice_choices.tell_unusual_hour(account, command, at_ms, known.told))
        case View():
            return _typed(command, Posting(_view(account, known.next_id, at_ms)))
        case _:
            return _decide_billing(account, command, at_ms, known)


def _decide_billing(  # noqa: PLR0911 - one case a command
    account: Account, command: BillingCommand, at_ms: int, known: Known
) -> Posting[Result] | CommandRefusal:
    match command:
        case SetAddress():
            return _typed(command, addresses.set_address(account, command))
        case SetThreshold():
            return _typed(command, addresses.set_threshold(account, command))
        case SetNotices():
            return _typed(command, notice_choices.set_notices(account, command))
        case SetWebhook():
            return _typed(command, notice_choices.set_webhook(account, command))
        case CheckPromo():
            return _typed(command, orders.check_promo(account, command, at_ms, known))
        case PrepareOrder():
            return _typed(command, orders.prepare(account, command, at_ms, known))
        case OpenOrder():
            return _typed(command, orders.open_order(account, command, at_ms, known))
        case Capture() | Fail() | TakeRefund() | TakeDispute():
            return _decide_payment(account, command, at_ms, known)
        case Find():
            return _typed(command, Posting(_found(account, command, known)))
    assert_never(command)


def _decide_payment(
    account: Account, command: ByPayment, at_ms: int, known: Known
) -> Posting[Result] | CommandRefusal:
    match command:
        case Capture():
            return _typed(command, captures.capture(account, command, at_ms, known))
        case Fail():
            return _typed(command, captures.fail(account, command, known))
        case TakeRefund():
            return _typed(command, refunds.refund(account, command, known))
        case TakeDispute():
            return _typed(command, disputes.take_dispute(account, command, known))
    assert_never(command)


def _typed(
    command: AccountCommand[R],  # noqa: ARG001 - for mypy alone
    posting: Posting[R] | CommandRefusal,
) -> Posting[R] | CommandRefusal:
    """Return a posting as it is. The types say that its result is the one the command is answered with."""
    return posting


def answered_before(
    account: Account, command: AnyAccountCommand, kept: RememberedAnswer | None = None
) -> bytes | CommandRefusal | None:
    """Return what the same command was answered earlier; a refusal where its id served another one.

    `kept` is what is kept of it by its own id, if it may be repeated for a day. What an earlier release kept of it is
    in the profile.
    """
    if isinstance(command, Question | TellUnusualHour) or not is_remembered(command):
        return None
    for answer in [kept] if kept is not None else account.profile.answers:
        if answer.command_id == command.id:
            if answer.fingerprint == command.fingerprint:
                return answer.result
            return CommandRefusal(
                RefusalCode.INVALID_REQUEST,
                "this Idempotency-Key was used for another request",
                "Idempotency-Key",
            )
    return None


def with_answer(profile: Profile, answer: RememberedAnswer) -> Profile:
    """Return the profile remembering one more answer, the oldest dropped beyond a number."""
    return structs.replace(profile, answers=[*profile.answers[-(ANSWERS_KEPT - 1) :], answer])


def _sign_up(account: Account, command: SignUp, at_ms: int) -> Posting[SignedUp] | CommandRefusal:
    profile = account.profile
    if profile.signed_up_ms is not None:
        return Posting(SignedUp(account.org, signed_up=False))
    name = name_or_refusal(command.name)
    if isinstance(name, CommandRefusal):
        return name
    signed_up = structs.replace(profile, name=name, email=command.email, signed_up_ms=at_ms)
    credit = LedgerEntry(LedgerKind.PROMO, SIGNUP_CREDIT_NANO, note="signup credit")
    return Posting(SignedUp(account.org, signed_up=True), entries=(credit,), profile=signed_up)


def _view(account: Account, next_id: int, at_ms: int) -> AccountView:
    """Return the account as its members may see it."""
    profile, spending = account.profile, account.spending
    month, day = ist.month_of(at_ms), ist.day_of(at_ms)
    shown = []
    for key in sorted(profile.keys.values(), key=lambda each: each.created_ms):
        usage = spending.keys.get(key.key_id)
        shown.append(
            KeyView(
                key_id=key.key_id,
                name=key.name,
                prefix=key.prefix,
                tier=key.tier,
                created_ms=key.created_ms,
                budget_nano=key.budget_nano,
                daily_limit=key.daily_limit,
                rpm_limit=key.rpm_limit,
                expires_ms=key.expires_ms,
                revoked=key.revoked,
                version=key.version,
                spent_this_month_nano=usage.months.get(month, 0) if usage else 0,
                requests_today=usage.days.get(day, 0) if usage else 0,
            )
        )
    return AccountView(
        org=account.org,
        name=profile.name,
        email=profile.email,
        signed_up=profile.signed_up_ms is not None,
        balance_nano=spending.balance_nano,
        entry_id=spending.entry_id,
        threshold_nano=profile.threshold_nano,
        address=view_of_address(profile.address) if profile.address else None,
        keys=shown,
        next_id=next_id,
        posted_ms=at_ms,
        notices=notice_choices.view_of_notices(profile.notices),
    )


def _found(account: Account, command: Find, known: Known) -> Found:
    """Return what is known of the order and the payment asked for, where they are the org's own."""
    order, payment = known.order, known.payment
    kept = [known.answer] if known.answer is not None else account.profile.answers
    answers = [a.result for a in kept if a.command_id == command.answered]
    return Found(
        balance_nano=account.spending.balance_nano,
        order=view_of_order(order) if order and order.org == account.org else None,
        answer=Raw(answers[0] if answers else b"null"),
        payment=view_of_payment(payment) if payment and payment.org == account.org else None,
    )

"""Money that came in, and money that did not: what a captured or failed payment does to an account.

Owns: that a payment is credited once however often it is reported, what is credited for it, and the promo bonus
that goes with it.
Called by: `accounts/decide.py`. Next: `accounts/ledger.py` posts the entries.

What was ordered is credited where the payment is over it, or where Razorpay says that the payment paid the order: the
payer may bear Razorpay's fee on top, or pay less by an offer. Any other amount waits for an operator, who settles
it: then what was paid is credited, without a bonus.
"""

from __future__ import annotations

from msgspec import structs

from pipeline.accounts.commands import Capture, CommandRefusal, Fail
from pipeline.accounts.ledger import CREDITED_MAX_NANO, LedgerEntry, Posting
from pipeline.accounts.model import Account, Profile
from pipeline.accounts.orders import without_unpaid
from pipeline.accounts.payments import INR, Known, Order, Payment
from pipeline.accounts.promos import is_good, is_redeemed, key_of
from pipeline.accounts.results import PaymentTaken
from pipeline.money import NANO_PER_PAISA
from pipeline.outcomes import LedgerKind, PaymentStatus, RefusalCode

SKEW_MS = 60_000
"""How far another machine's clock may be from this one's and still be believed."""


def capture(
    account: Account, command: Capture, at_ms: int, known: Known
) -> Posting[PaymentTaken] | CommandRefusal:
    """Credit a captured payment, once; a mismatched one is recorded and not credited."""
    balance_nano = account.spending.balance_nano
    earlier = known.payment
    if earlier is not None and earlier.org != account.org:
        return CommandRefusal(RefusalCode.NOT_FOUND, "no such payment")
    if earlier is not None and earlier.status == "captured":
        return Posting(PaymentTaken("captured", balance_nano, credited=False))
    order = known.order or _adopted(account, command, at_ms)
    as_ordered = order is not None and _is_as_ordered(command, order)
    problem = _problem(account, command, order, as_ordered=as_ordered)
    if problem or order is None:
        payment = _payment(account, command, "mismatched", earlier, problem=problem)
        records = () if payment == earlier else (payment,)
        return Posting(PaymentTaken("mismatched", balance_nano, noted=bool(records)), records=records)
    bonus, why_not, profile = (
        _bonus(account.profile, command, order, at_ms, known)
        if as_ordered
        else (None, f"settled: the order is over {order.amount_paise} paise", None)
    )
    if order.order_id in account.profile.unpaid:
        profile = without_unpaid(profile or account.profile, order.order_id)
    credited_paise = order.amount_paise if as_ordered else command.amount_paise
    topup = LedgerEntry(
        LedgerKind.TOPUP,
        credited_paise * NANO_PER_PAISA,
        payment_id=command.payment_id,
        order_id=order.order_id,
        note=why_not,
    )
    entries = (topup, bonus) if bonus is not None else (topup,)
    paid = order if order.paid_by else structs.replace(order, paid_by=command.payment_id)
    return Posting(
        PaymentTaken("captured", balance_nano + sum(entry.amount_nano for entry in entries), credited=True),
        entries=entries,
        profile=profile,
        records=(paid, _payment(account, command, "captured", earlier, credited_paise=credited_paise)),
    )


def fail(account: Account, command: Fail, known: Known) -> Posting[PaymentTaken] | CommandRefusal:
    """Note a payment that failed. It may still be captured later, and counts then."""
    earlier = known.payment
    if earlier is not None and earlier.org != account.org:
        return CommandRefusal(RefusalCode.NOT_FOUND, "no such payment")
    records = (_payment(account, command, "failed", earlier),) if earlier is None else ()
    return Posting(PaymentTaken(earlier.status if earlier else "failed"), records=records)


def _adopted(account: Account, command: Capture, at_ms: int) -> Order | None:
    """Return the order as Razorpay knows it, where this side lost it: Razorpay's notes name our org."""
    found = command.order
    if found is None:
        return None
    return Order(command.order_id, account.org, found.amount_paise, at_ms, found.promo_code)


def _is_as_ordered(command: Capture, order: Order) -> bool:
    """Whether a payment is what was ordered; one of another amount is, where Razorpay says that it paid the order.

    An order that another payment has paid says nothing about this one.
    """
    if command.amount_paise == order.amount_paise:
        return True
    return command.order_paid and order.paid_by in (None, command.payment_id)


def _problem(account: Account, command: Capture, order: Order | None, *, as_ordered: bool) -> str:
    """Return why a payment must not be credited, nothing where it may."""
    if order is None or order.org != account.org:
        return "the org has no such order"
    if command.currency != INR:
        return f"it is in {command.currency[:8]}, not {INR}"
    if command.amount_paise <= 0 or not (as_ordered or command.settled):
        return f"it is over {command.amount_paise} paise, the order over {order.amount_paise}"
    paise = order.amount_paise if as_ordered else command.amount_paise
    credited_nano = account.spending.credited_nano + paise * NANO_PER_PAISA + order.bonus_nano
    if credited_nano > CREDITED_MAX_NANO:
        return "the account's credits would be out of range"
    return ""


def _bonus(
    profile: Profile, command: Capture, order: Order, at_ms: int, known: Known
) -> tuple[LedgerEntry | None, str | None, Profile | None]:
    """Return the bonus entry, or else the note that says why there is none, and the profile after it."""
    code, promo = order.promo_code, known.promo
    if code is None or order.paid_by is not None:
        return None, None, None
    if is_redeemed(profile, code):
        return None, f"no bonus for promo code {code}: it was redeemed with another payment", None
    if promo is None:
        return None, f"no bonus for promo code {code}: it is not valid any more", None
    if not is_good(promo, _paid_ms(command, order, at_ms)):
        return None, f"no bonus for promo code {code}: it had expired when the payment was made", None
    redeemed = {**profile.redeemed, key_of(code): command.payment_id}
    entry = LedgerEntry(
        LedgerKind.PROMO,
        order.bonus_nano or promo.bonus_nano,
        payment_id=command.payment_id,
        order_id=order.order_id,
        promo_code=promo.code,
    )
    return entry, None, structs.replace(profile, redeemed=redeemed)


def _paid_ms(command: Capture, order: Order, at_ms: int) -> int:
    """Return when the payer paid, so that a confirmation that comes late does not cost the bonus.

    Razorpay reports whole seconds. A time before the order or after now is not believed.
    """
    paid_ms = command.paid_ms + 999
    return paid_ms if order.created_ms - SKEW_MS <= paid_ms <= at_ms else at_ms


def _payment(
    account: Account,
    command: Capture | Fail,
    status: PaymentStatus,
    earlier: Payment | None,
    *,
    problem: str = "",
    credited_paise: int = 0,
) -> Payment:
    """Return the record of a payment; a dispute that was told of before the payment was credited stays on it."""
    address = account.profile.address if status == "captured" else None
    return Payment(
        payment_id=command.payment_id,
        order_id=command.order_id,
        org=account.org,
        status=status,
        amount_paise=command.amount_paise,
        currency=command.currency,
        method=command.method,
        email=command.email,
        contact=command.contact,
        paid_ms=command.paid_ms,
        payer=(address.name if address else account.profile.name) if status == "captured" else "",
        address=address,
        problem=problem,
        credited_paise=credited_paise,
        open_disputes=earlier.open_disputes if earlier is not None else {},
    )

"""Top-ups before the money moves: whether an org may order one, the order's record, when to ask about it.

Owns: the bounds of a top-up, the promo check, `prepare` and `open_order`, and when to ask Razorpay about an open order.
Called by: `accounts/decide.py`; `payments/order_index.py` for when to ask.
Next: `accounts/captures.py` when it is paid.

An order is made in three steps, so that none is lost or made twice: `prepare` books the attempt under the
command's id, Razorpay makes the order, `open_order` records it. No order id is told to anybody before it is
recorded. Whoever repeats the attempt learns from the nonce that somebody was there before, and looks at
Razorpay for the order before making one.
"""

from __future__ import annotations

from msgspec import structs

from pipeline.accounts.commands import CheckPromo, OpenOrder, PrepareOrder, Refusal
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account
from pipeline.accounts.payments import INR, Known, Order
from pipeline.accounts.promos import is_good, is_redeemed
from pipeline.ist import DAY_MS

PAISE_PER_RUPEE = 100
RUPEES_MIN, RUPEES_MAX = 100, 1_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
ASKED_FOR_MS = 7 * DAY_MS


def check_promo(account: Account, command: CheckPromo, at_ms: int, known: Known) -> Posting | Refusal:
    """Tell what a code is worth to an org now, or why it is worth nothing."""
    refusal = _promo_refusal(account, command.code, at_ms, known)
    if refusal is not None:
        return refusal
    assert known.promo is not None
    return Posting({"code": known.promo.code, "bonus_nano": known.promo.bonus_nano})


def prepare(account: Account, command: PrepareOrder, at_ms: int, known: Known) -> Posting | Refusal:
    """Book the attempt to order a top-up, or say why it cannot be: all before any money moves."""
    rupees, paise = divmod(command.amount_paise, PAISE_PER_RUPEE)
    if paise or not RUPEES_MIN <= rupees <= RUPEES_MAX:
        message = f"a top-up is {RUPEES_MIN} to {RUPEES_MAX} whole rupees"
        return Refusal("invalid_request", message, "amount_inr")
    if account.profile.address is None:
        return Refusal("address_required", "the org needs a billing address before its first top-up")
    if command.promo_code is not None:
        refusal = _promo_refusal(account, command.promo_code, at_ms, known)
        if refusal is not None:
            return refusal
    promo = known.promo if command.promo_code is not None else None
    return Posting(
        {
            "nonce": command.nonce,
            "promo_code": promo.code if promo else None,
            "bonus_nano": promo.bonus_nano if promo else 0,
        }
    )


def open_order(account: Account, command: OpenOrder, at_ms: int, known: Known) -> Posting | Refusal:
    """Record an order that Razorpay made; recording it again changes nothing."""
    order = known.order
    if order is not None and order.org != account.org:
        return Refusal("not_found", "no such order")
    if order is not None:
        return Posting(_shown(order))
    order = Order(
        order_id=command.order_id,
        org=account.org,
        amount_paise=command.amount_paise,
        created_ms=at_ms,
        promo_code=command.promo_code,
        bonus_nano=command.bonus_nano,
    )
    return Posting(_shown(order), records=(order,))


def ask_again_ms(created_ms: int, asked_ms: int, every_ms: int = MINUTE_MS) -> int | None:
    """Return when to ask Razorpay again about an open order last asked about at an instant.

    Every minute for an hour, then after a tenth of the order's age; None where it is given up.
    """
    age_ms = asked_ms - created_ms
    if age_ms >= ASKED_FOR_MS:
        return None
    return asked_ms + (every_ms if age_ms < HOUR_MS else max(every_ms, age_ms // 10))


def _promo_refusal(account: Account, code: str, at_ms: int, known: Known) -> Refusal | None:
    """Unknown and expired codes are answered alike, so that guessing tells nothing."""
    if is_redeemed(account.profile, code):
        return Refusal("promo_redeemed", "the org has redeemed this promo code", "promo_code")
    if not is_good(known.promo, at_ms):
        return Refusal("promo_invalid", "this promo code is not valid", "promo_code")
    return None


def _shown(order: Order) -> dict[str, object]:
    return {**structs.asdict(order), "currency": INR}

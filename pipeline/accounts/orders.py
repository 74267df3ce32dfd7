"""Top-ups before the money moves: whether an org may order one, the order's record, when to poll for it.

Owns: the bounds of a top-up, the promo check, `prepare` and `open_order`, and when to ask Razorpay about an open order.
Called by: `accounts/decide.py`; `payments/order_index.py` for when to ask.
Next: `accounts/captures.py` when it is paid.

An order is made in three steps, so that none is lost or made twice: `prepare` books the attempt under the
command's id, Razorpay makes the order, `open_order` records it. An order id is answered only once it is
recorded. A repetition of the attempt is answered the first one's nonce; it sees that this is not its own, and
looks for the order at Razorpay before it makes one.
"""

from __future__ import annotations

from msgspec import structs

from pipeline.accounts.commands import CheckPromo, CommandRefusal, OpenOrder, PrepareOrder
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account, Profile
from pipeline.accounts.payments import Known, Order
from pipeline.accounts.promos import is_good, is_redeemed
from pipeline.accounts.results import OrderOpened, OrderPrepared, PromoWorth, opened
from pipeline.ist import DAY_MS
from pipeline.outcomes import RefusalCode

PAISE_PER_RUPEE = 100
OPENING = ".open"
"""What the id of the command that records an order has after that of the command that booked the attempt."""
RUPEES_MIN, RUPEES_MAX = 100, 1_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
POLLED_FOR_MS = 7 * DAY_MS
UNPAID_MAX = 10
"""How many orders that nobody has paid an org may have of the last UNPAID_COUNTS_MS: each is asked about at Razorpay."""
UNPAID_COUNTS_MS = DAY_MS
ATTEMPT_COUNTS_MS = 10 * MINUTE_MS
"""How long an attempt counts as an order that may still be recorded. After that it failed, and nobody is held up by it."""


def check_promo(
    account: Account, command: CheckPromo, at_ms: int, known: Known
) -> Posting[PromoWorth] | CommandRefusal:
    """Tell what a code is worth to an org now, or why it is worth nothing."""
    refusal = _promo_refusal(account, command.code, at_ms, known)
    if refusal is not None:
        return refusal
    assert known.promo is not None
    return Posting(PromoWorth(known.promo.code, known.promo.bonus_nano))


def prepare(
    account: Account, command: PrepareOrder, at_ms: int, known: Known
) -> Posting[OrderPrepared] | CommandRefusal:
    """Book the attempt to order a top-up, or say why it cannot be: all before any money moves."""
    rupees, paise = divmod(command.amount_paise, PAISE_PER_RUPEE)
    if paise or not RUPEES_MIN <= rupees <= RUPEES_MAX:
        message = f"a top-up is {RUPEES_MIN} to {RUPEES_MAX} whole rupees"
        return CommandRefusal(RefusalCode.INVALID_REQUEST, message, "amount_inr")
    if account.profile.address is None:
        return CommandRefusal(
            RefusalCode.ADDRESS_REQUIRED, "the org needs a billing address before its first top-up"
        )
    if command.promo_code is not None:
        refusal = _promo_refusal(account, command.promo_code, at_ms, known)
        if refusal is not None:
            return refusal
    unpaid = _unpaid(account, at_ms)
    if len(unpaid) >= UNPAID_MAX:
        return CommandRefusal(
            RefusalCode.RATE_LIMIT_EXCEEDED,
            f"the org has {UNPAID_MAX} orders of the last 24 hours that are not paid: pay one of them, or wait",
            retry_after_s=max(1, -(-(min(unpaid.values()) - at_ms) // 1000)),
        )
    promo = known.promo if command.promo_code is not None else None
    return Posting(
        OrderPrepared(command.nonce, promo.code if promo else None, promo.bonus_nano if promo else 0),
        profile=structs.replace(account.profile, unpaid={**unpaid, command.id: at_ms + ATTEMPT_COUNTS_MS}),
    )


def open_order(
    account: Account, command: OpenOrder, at_ms: int, known: Known
) -> Posting[OrderOpened] | CommandRefusal:
    """Record an order that Razorpay made; recording it again changes nothing."""
    order = known.order
    if order is not None and order.org != account.org:
        return CommandRefusal(RefusalCode.NOT_FOUND, "no such order")
    if order is not None:
        return Posting(opened(order))
    order = Order(
        order_id=command.order_id,
        org=account.org,
        amount_paise=command.amount_paise,
        created_ms=at_ms,
        promo_code=command.promo_code,
        bonus_nano=command.bonus_nano,
    )
    unpaid = _unpaid(account, at_ms)
    unpaid.pop(command.id.removesuffix(OPENING), None)
    unpaid[order.order_id] = at_ms + UNPAID_COUNTS_MS
    profile = structs.replace(account.profile, unpaid=unpaid)
    return Posting(opened(order), profile=profile, records=(order,))


def without_unpaid(profile: Profile, order_id: str) -> Profile:
    """Return the profile without an order that is paid now."""
    unpaid = {name: until_ms for name, until_ms in profile.unpaid.items() if name != order_id}
    return structs.replace(profile, unpaid=unpaid)


def next_poll_ms(created_ms: int, polled_ms: int, every_ms: int = MINUTE_MS) -> int | None:
    """Return when to ask Razorpay again about an unpaid order that was last asked about at `polled_ms`.

    Every `every_ms` while the order is younger than an hour, then after a tenth of its age; None once it is
    older than `POLLED_FOR_MS`: then it is given up.
    """
    age_ms = polled_ms - created_ms
    if age_ms >= POLLED_FOR_MS:
        return None
    return polled_ms + (every_ms if age_ms < HOUR_MS else max(every_ms, age_ms // 10))


def _unpaid(account: Account, at_ms: int) -> dict[str, int]:
    """Return the org's orders and attempts that count as unpaid at an instant, and until when each does."""
    return {name: until_ms for name, until_ms in account.profile.unpaid.items() if until_ms > at_ms}


def _promo_refusal(account: Account, code: str, at_ms: int, known: Known) -> CommandRefusal | None:
    """Unknown and expired codes are answered alike, so that guessing tells nothing."""
    if is_redeemed(account.profile, code):
        return CommandRefusal(
            RefusalCode.PROMO_REDEEMED, "the org has redeemed this promo code", "promo_code"
        )
    if not is_good(known.promo, at_ms):
        return CommandRefusal(RefusalCode.PROMO_INVALID, "this promo code is not valid", "promo_code")
    return None

"""What commands are answered: one type for each command, named by the command's own class.

Owns: the shapes of the answers. They travel on `metering.replies` as JSON, and an account remembers some of
them (`accounts/model.py`), so a field keeps its name for ever and a new one has a default.
Called by: `accounts/commands.py` ties each to its command; the rules in `accounts/` make them; the API, the
intake of payments and the command line read them.

Amounts end in their unit: nano-rupees or paise; instants are milliseconds since the epoch.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from pipeline.accounts.model import Address
from pipeline.accounts.payments import INR, Order, Payment
from pipeline.outcomes import DisputeStatus, PaymentStatus, RefundStatus


class SignedUp(Struct, frozen=True):
    """Whether it was this command that signed the org up."""

    org: str
    signed_up: bool


class KeyCreated(Struct, frozen=True):
    """The new key, and the nonce that its secret was made with."""

    key_id: str
    version: int
    nonce: str


class KeyChanged(Struct, frozen=True):
    """The key's version from now on."""

    key_id: str
    version: int


class CreditPosted(Struct, frozen=True):
    """The balance after an operator's credit."""

    org: str
    balance_nano: int


class AddressView(Struct, frozen=True):
    """A billing address by the names of its lines."""

    name: str
    line1: str
    line2: str | None
    city: str
    state: str
    pin: str
    gstin: str | None


class AddressSet(Struct, frozen=True):
    """The billing address from now on."""

    address: AddressView


class ThresholdSet(Struct, frozen=True):
    """The alert's threshold from now on; None where it is off."""

    threshold_nano: int | None


class NoticesSet(Struct, frozen=True):
    """What the org is told of from now on, and by which ways; `webhook_host` is None where there is no webhook."""

    mail: bool = True
    budget_reached: bool = True
    statement_ready: bool = True
    unusual_hour: bool = True
    webhook_host: str | None = None


class NoticeTold(Struct, frozen=True):
    """Whether it was this command by which the org is told."""

    told: bool


class StatementsTold(Struct, frozen=True):
    """To how many orgs of a partition it was said whether they are told, and whether there are more to ask for."""

    orgs: int
    has_more: bool


class WebhookSet(Struct, frozen=True):
    """The URL that notices are sent to from now on, None for none, and the nonce of its secret."""

    url: str | None
    nonce: str


class PromoWorth(Struct, frozen=True):
    """A valid promo code as it was published, and its bonus."""

    code: str
    bonus_nano: int


class OrderPrepared(Struct, frozen=True):
    """The attempt that was booked: the first one's nonce, and what its promo code promised then."""

    nonce: str
    promo_code: str | None
    bonus_nano: int


class OrderView(Struct, frozen=True):
    """A recorded order."""

    order_id: str
    org: str
    amount_paise: int
    created_ms: int
    promo_code: str | None
    bonus_nano: int
    paid_by: str | None


class OrderOpened(OrderView, frozen=True):
    """An order as it is recorded now, with its currency."""

    currency: str = INR


class PaymentView(Struct, frozen=True):
    """A payment that Razorpay reported; only a `captured` one was credited."""

    payment_id: str
    order_id: str
    org: str
    status: PaymentStatus
    amount_paise: int
    currency: str
    method: str
    email: str
    contact: str
    paid_ms: int
    payer: str
    address: AddressView | None
    refunded_paise: int
    problem: str
    credited_paise: int = 0
    disputed_paise: int = 0
    corrected_paise: int = 0
    open_disputes: dict[str, int] = {}


class PaymentTaken(Struct, frozen=True, omit_defaults=True):
    """What became of a payment that was reported as captured or as failed.

    After a capture there is `balance_nano`, and where it is credited `credited` tells whether this very command
    did it; `noted` tells that this very command found it mismatched. One type for both commands: the same Idempotency-Key may come first with a payment that failed and then with its capture,
    and is answered what was remembered.
    """

    status: PaymentStatus
    balance_nano: int | None = None
    credited: bool | None = None
    noted: bool = False


class RefundTaken(Struct, frozen=True):
    """What became of a refund, and the balance after it."""

    status: RefundStatus
    balance_nano: int


class DisputeTaken(Struct, frozen=True):
    """Where a dispute stands, and the balance after it."""

    status: DisputeStatus
    balance_nano: int


class Found(Struct, frozen=True):
    """The org's own order and payment of the ids asked for, None where it has none.

    `answer` is what a command was answered, in JSON, null where it was not:
    `accounts/commands.py:remembered_result` reads it.
    """

    balance_nano: int
    order: OrderView | None
    answer: Raw
    payment: PaymentView | None


class StrayNoted(Struct, frozen=True):
    """Whether a payment that is no org's was kept; one that is known to be an org's is not."""

    noted: bool


class KeyView(Struct, frozen=True):
    """A key without its hash, and what it has used in the IST month and day of the answer."""

    key_id: str
    name: str
    prefix: str
    tier: str
    created_ms: int
    budget_nano: int | None
    daily_limit: int | None
    rpm_limit: int | None
    expires_ms: int | None
    revoked: bool
    version: int
    spent_this_month_nano: int
    requests_today: int


class AccountView(Struct, frozen=True):
    """An account as its members may see it. `entry_id` is the newest ledger entry's id, 0 before one.

    The view holds all rows of the journal below `next_id`, and at `posted_ms`: later rows have higher ids, and are not posted
    earlier. Both are 0 where a worker of an earlier release answers.
    """

    org: str
    name: str
    email: str
    signed_up: bool
    balance_nano: int
    entry_id: int
    threshold_nano: int | None
    address: AddressView | None
    keys: list[KeyView]
    next_id: int = 0
    posted_ms: int = 0
    notices: NoticesSet = NoticesSet()


class BarrierReached(Struct, frozen=True):
    """The partition whose owner has read what the barrier asked for, and how far it has posted `metering.moved`."""

    partition: int
    moved_offset: int = 0


def view_of_address(address: Address) -> AddressView:
    """Return an address by the names of its lines."""
    return msgspec.convert(address, AddressView, from_attributes=True)


def view_of_order(order: Order) -> OrderView:
    """Return an order by the names of its fields."""
    return msgspec.convert(order, OrderView, from_attributes=True)


def view_of_payment(payment: Payment) -> PaymentView:
    """Return a payment by the names of its fields, its address too."""
    return msgspec.convert(payment, PaymentView, from_attributes=True)


def opened(order: Order) -> OrderOpened:
    """Return the result of an order that is recorded."""
    return msgspec.convert(order, OrderOpened, from_attributes=True)


Result = (
    SignedUp
    | KeyCreated
    | KeyChanged
    | CreditPosted
    | AddressSet
    | ThresholdSet
    | NoticesSet
    | WebhookSet
    | NoticeTold
    | PromoWorth
    | OrderPrepared
    | OrderOpened
    | PaymentTaken
    | RefundTaken
    | DisputeTaken
    | Found
    | AccountView
)
"""What `accounts/decide.py` may answer; a partition's own answers are not among them."""

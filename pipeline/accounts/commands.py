"""The commands that change an account, or ask about it, as they travel on `metering.billing`.

Owns: their shapes, which result each is answered with, the reply's shape, and how both become bytes.
Called by: the API, the intake of payments and the command line send them; `accounts/decide.py` decides them.

A command's `id` makes it idempotent: the same id again gets the same answer and has no second effect,
and `fingerprint` tells a repetition from another request that reuses the id by mistake.

To add a command: its result in `accounts/results.py`, its class and its place in a union here, its case in
`decide` and in `known_of` of `accounts/decide.py` (mypy names both). A command travels and is remembered as
JSON, so a field keeps its name for ever, and a new field has a default.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Generic, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pipeline.accounts.notices import NoticeSwitch
from pipeline.accounts.results import (
    AccountView,
    AddressSet,
    BarrierReached,
    CreditPosted,
    DisputeTaken,
    Found,
    KeyChanged,
    KeyCreated,
    NoticesSet,
    NoticeTold,
    OrderOpened,
    OrderPrepared,
    PaymentTaken,
    PromoWorth,
    RefundTaken,
    SignedUp,
    StatementsTold,
    StrayNoted,
    ThresholdSet,
    WebhookSet,
)
from pipeline.accounts.webhooks import URL_LENGTH_MAX
from pipeline.events import KeyId, Name, OrgId
from pipeline.outcomes import DisputeStatus, RefusalCode

R = TypeVar("R")

Short = Annotated[str, Meta(max_length=256)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Whatever an account keeps has to fit into its record, so every text and number here has a bound."""


KEYED = "key_"
"""What the ids of commands begin with that came with an `Idempotency-Key`, and of those that carry one out."""


class Command(Struct, Generic[R], tag_field="kind", frozen=True):
    """A command that is answered with an `R`, or with a `CommandRefusal`."""

    id: Name


class AccountCommand(Command[R], Generic[R], frozen=True):
    """A command to an org's account, decided by the account's owner."""

    org: OrgId


class SignUp(AccountCommand[SignedUp], tag="sign_up", frozen=True):
    """Sign an org up: its name and email, and the signup credit, once."""

    name: Name
    email: Name
    fingerprint: Short = ""


class CreateKey(AccountCommand[KeyCreated], tag="create_key", frozen=True):
    """Register a key whose secret the sender made; `hash` is its SHA-256 in hex.

    `nonce` comes back in the answer, so that the sender can make the same secret again.
    """

    key_id: KeyId
    name: Name
    prefix: Short
    hash: Short
    tier: Short = "standard"
    budget_nano: Int64 | None = None
    daily_limit: Int64 | None = None
    rpm_limit: Int64 | None = None
    expires_ms: Int64 | None = None
    nonce: Short = ""
    fingerprint: Short = ""


class ChangeKey(AccountCommand[KeyChanged], tag="change_key", frozen=True):
    """Change what is given of a key; `revoked` is for good."""

    key_id: KeyId
    name: Name | UnsetType = UNSET
    budget_nano: Int64 | UnsetType | None = UNSET
    daily_limit: Int64 | UnsetType | None = UNSET
    rpm_limit: Int64 | UnsetType | None = UNSET
    expires_ms: Int64 | UnsetType | None = UNSET
    revoked: bool = False
    fingerprint: Short = ""


class Credit(AccountCommand[CreditPosted], tag="credit", frozen=True):
    """An operator's credit, or with a minus a correction, in nano-rupees, with the reason.

    With a `fingerprint` its id came from an idempotency key and counts once, for ever. `refund_id` names the
    refund that a correction takes off the balance, so that the refund itself is not debited when it is told of.
    """

    amount_nano: Int64
    reason: Name
    fingerprint: Short = ""
    refund_id: Short = ""


class SetAddress(AccountCommand[AddressSet], tag="set_address", frozen=True):
    """Set the billing address."""

    name: Short
    line1: Short
    city: Short
    state: Short
    pin: Short
    line2: Short | None = None
    gstin: Short | None = None
    fingerprint: Short = ""


class SetThreshold(AccountCommand[ThresholdSet], tag="set_threshold", frozen=True):
    """Set the balance below which the org gets a mail, in nano-rupees; None turns it off."""

    threshold_nano: Int64 | None
    fingerprint: Short = ""


class SetNotices(AccountCommand[NoticesSet], tag="set_notices", frozen=True):
    """Switch on or off what is given by name: mails of notices, or a kind of notice."""

    switches: dict[NoticeSwitch, bool]
    fingerprint: Short = ""


class SetWebhook(AccountCommand[WebhookSet], tag="set_webhook", frozen=True):
    """Set the URL that notices are sent to; None: nowhere. `nonce` is for a new secret, used where one is made."""

    url: Annotated[str, Meta(min_length=1, max_length=URL_LENGTH_MAX)] | None
    nonce: Short = ""
    new_secret: bool = False
    fingerprint: Short = ""


class TellUnusualHour(AccountCommand[NoticeTold], tag="tell_unusual_hour", frozen=True):
    """An hour cost many times what it usually does: tell the org, unless it was told of one within 24 hours."""

    hour_ms: Int64
    cost_nano: Int64
    usual_nano: Int64
    key_id: Short
    model: Short


class CheckPromo(AccountCommand[PromoWorth], tag="check_promo", frozen=True):
    """Ask what a promo code is worth to an org; changes nothing."""

    code: Short


class PrepareOrder(AccountCommand[OrderPrepared], tag="prepare_order", frozen=True):
    """Book the attempt to order a top-up. `nonce` tells the first attempt from its repetitions."""

    amount_paise: Int64
    promo_code: Short | None = None
    nonce: Short = ""
    fingerprint: Short = ""


class OpenOrder(AccountCommand[OrderOpened], tag="open_order", frozen=True):
    """Record an order that Razorpay made, with what its promo code promised."""

    order_id: Name
    amount_paise: Int64
    promo_code: Short | None = None
    bonus_nano: Int64 = 0
    fingerprint: Short = ""


class FoundOrder(Struct, frozen=True):
    """An order as Razorpay has it, for an owner that has lost it."""

    amount_paise: Int64
    promo_code: Short | None = None


class Capture(AccountCommand[PaymentTaken], tag="capture", frozen=True):
    """Razorpay has captured a payment: credit it, unless that has been done.

    `order_paid`: Razorpay says that the order is paid by it, whatever the amount. `settled`: an operator has
    decided that a payment of another amount counts as what it is.
    """

    payment_id: Name
    order_id: Name
    amount_paise: Int64
    currency: Short
    paid_ms: Int64
    method: Short = ""
    email: Short = ""
    contact: Short = ""
    order: FoundOrder | None = None
    fingerprint: Short = ""
    order_paid: bool = False
    settled: bool = False


class Fail(AccountCommand[PaymentTaken], tag="fail", frozen=True):
    """Razorpay says that a payment failed."""

    payment_id: Name
    order_id: Name
    amount_paise: Int64
    currency: Short
    paid_ms: Int64
    method: Short = ""
    email: Short = ""
    contact: Short = ""
    fingerprint: Short = ""


class TakeRefund(AccountCommand[RefundTaken], tag="refund", frozen=True):
    """Razorpay has refunded a payment, or says that a refund of it `failed`."""

    refund_id: Name
    payment_id: Name
    amount_paise: Int64
    currency: Short
    failed: bool = False
    fingerprint: Short = ""


class TakeDispute(AccountCommand[DisputeTaken], tag="dispute", frozen=True):
    """Razorpay says where a dispute of a payment stands, and how much the bank took back."""

    dispute_id: Name
    payment_id: Name
    status: DisputeStatus
    amount_paise: Int64
    deducted_paise: Int64
    currency: Short
    fingerprint: Short = ""


class Find(AccountCommand[Found], tag="find", frozen=True):
    """Ask for an org's order or payment by its id, or what a command was answered; changes nothing."""

    order_id: Short | None = None
    payment_id: Short | None = None
    answered: Short | None = None


class NoteStray(Command[StrayNoted], tag="note_stray", frozen=True):
    """Keep a payment of the Razorpay account that is no org's. Addressed by payment id, to no account."""

    payment_id: Name
    order_id: Short
    amount_paise: Int64
    currency: Short


class View(AccountCommand[AccountView], tag="view", frozen=True):
    """Ask for the account as it is now; changes nothing."""


class TellStatements(Command[StatementsTold], tag="tell_statements", frozen=True):
    """A month (202611) is over: tell orgs that their statement is ready, a limited number of those that were not told.

    It is addressed to a partition, not an org.
    """

    month: Int64


class Barrier(Command[BarrierReached], tag="barrier", frozen=True):
    """Ask a partition's owner to answer once it has read catalog, promo codes and gateways up to an offset each.

    It is addressed to a partition, not an org, and doubles as the question whether anybody owns it.
    """

    catalog_offset: Int64 = 0
    promos_offset: Int64 = 0
    gateways_offset: Int64 = 0


Question = View | Find | CheckPromo
"""These change nothing."""
ByPayment = Capture | Fail | TakeRefund | TakeDispute
"""These are idempotent by the payment, refund or dispute they name; their own id matters where they came with one."""
AnyAccountCommand = (
    SignUp
    | CreateKey
    | ChangeKey
    | Credit
    | SetAddress
    | SetThreshold
    | SetNotices
    | SetWebhook
    | TellUnusualHour
    | PrepareOrder
    | OpenOrder
    | ByPayment
    | Question
)
"""Every command to an account: what decides one has a case for each, or mypy says so."""
AnyCommand = AnyAccountCommand | Barrier | NoteStray | TellStatements


def is_remembered(command: AnyAccountCommand) -> bool:
    """Whether the answer to a command is kept, so that the same id gets the same answer again."""
    # By what an org was told it is known already whether it is told again.
    if isinstance(command, Question | TellUnusualHour):
        return False
    return bool(command.fingerprint) or not isinstance(command, ByPayment)


def is_keyed(command: AnyAccountCommand) -> bool:
    """Whether a caller may repeat a command for a day, so that its answer is kept by its own id for so long.

    An operator's credit counts once for ever by itself: accounts/corrections.py.
    """
    return command.id.startswith(KEYED) and not isinstance(command, Question | Credit)


class CommandRefusal(Struct, frozen=True):
    """An expected no: `code` says which, `message` what to tell a person, `param` the field it is about.

    `retry_after_s` is in how many seconds the same may be asked again, where time alone helps.
    """

    code: RefusalCode
    message: str
    param: str | None = None
    retry_after_s: int | None = None


class Reply(Struct, frozen=True, omit_defaults=True):
    """What a command was answered, as it travels on `metering.replies`: a refusal, or else a result in JSON."""

    id: str
    result: Raw = Raw(b"null")
    refusal: CommandRefusal | None = None


encode = msgspec.json.Encoder().encode
_decode_command = msgspec.json.Decoder(AnyCommand).decode
_decode_reply = msgspec.json.Decoder(Reply).decode


def decode_command(value: bytes | None) -> AnyCommand | str:
    """Return the command of a record's value, or what is wrong with it."""
    try:
        command: AnyCommand = _decode_command(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return command


def decode_reply(value: bytes) -> Reply:
    """Return the reply of a record's value. Raises msgspec.MsgspecError for anything else."""
    return _decode_reply(value)


def result_of(kind: type[Command[R]], result: Raw | bytes) -> R:
    """Return the result that commands of a kind are answered with. Raises msgspec.MsgspecError for other JSON."""
    found: R = _result_decoder(kind).decode(result)
    return found


def remembered_result(kind: type[Command[R]], found: Found) -> R | None:
    """Return the result of the command, of a kind, that a `Find` asked for; None where it was not carried out.

    Raises msgspec.MsgspecError where it was a command of another kind.
    """
    return None if bytes(found.answer) == b"null" else result_of(kind, found.answer)


def answer_of(kind: type[Command[R]], reply: Reply) -> R | CommandRefusal:
    """Return what a command of a kind was answered. Raises msgspec.MsgspecError where it is not of its type."""
    return reply.refusal if reply.refusal is not None else result_of(kind, reply.result)


@cache
def _result_decoder(kind: type[Command[Any]]) -> msgspec.json.Decoder[Any]:
    """Return the decoder of the `R` that a command's class names in its `Command[R]`."""
    bases: tuple[object, ...] = kind.__orig_bases__  # type: ignore[attr-defined]  # every generic class has it
    [result] = get_args(bases[0])
    return msgspec.json.Decoder(result)

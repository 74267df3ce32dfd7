"""The commands that change an account, or ask about it, as they travel on `metering.billing`.

Owns: their shapes, the replies', and how both become bytes.
Called by: the API and the command line, which send them; `accounts/decide.py`, which decides them.

A command's `id` makes it idempotent: the same id again gets the same answer and has no second effect,
and `fingerprint` tells a repetition from another request that reuses the id by mistake.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pipeline.events import KeyId, Name, OrgId

Short = Annotated[str, Meta(max_length=256)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Whatever an account keeps has to fit into its record, so every text and number here has a bound."""


class SignUp(Struct, tag="sign_up", tag_field="kind", frozen=True):
    """Sign an org up: its name and email, and the signup credit, once."""

    id: Name
    org: OrgId
    name: Name
    email: Name
    fingerprint: Short = ""


class CreateKey(Struct, tag="create_key", tag_field="kind", frozen=True):
    """Register a key whose secret the sender made; `hash` is its SHA-256 in hex.

    `nonce` comes back in the answer, so that the sender can make the same secret again.
    """

    id: Name
    org: OrgId
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


class ChangeKey(Struct, tag="change_key", tag_field="kind", frozen=True):
    """Change what is given of a key; `revoked` is for good."""

    id: Name
    org: OrgId
    key_id: KeyId
    name: Name | UnsetType = UNSET
    budget_nano: Int64 | UnsetType | None = UNSET
    daily_limit: Int64 | UnsetType | None = UNSET
    rpm_limit: Int64 | UnsetType | None = UNSET
    expires_ms: Int64 | UnsetType | None = UNSET
    revoked: bool = False
    fingerprint: Short = ""


class Credit(Struct, tag="credit", tag_field="kind", frozen=True):
    """An operator's credit, or with a minus a correction, in nano-rupees, with the reason."""

    id: Name
    org: OrgId
    amount_nano: Int64
    reason: Name
    fingerprint: Short = ""


class SetAddress(Struct, tag="set_address", tag_field="kind", frozen=True):
    """Set the billing address."""

    id: Name
    org: OrgId
    name: Short
    line1: Short
    city: Short
    state: Short
    pin: Short
    line2: Short | None = None
    gstin: Short | None = None
    fingerprint: Short = ""


class SetThreshold(Struct, tag="set_threshold", tag_field="kind", frozen=True):
    """Set the balance below which the org gets a mail, in nano-rupees; None turns it off."""

    id: Name
    org: OrgId
    threshold_nano: Int64 | None
    fingerprint: Short = ""


class CheckPromo(Struct, tag="check_promo", tag_field="kind", frozen=True):
    """Ask what a promo code is worth to an org; changes nothing."""

    id: Name
    org: OrgId
    code: Short


class PrepareOrder(Struct, tag="prepare_order", tag_field="kind", frozen=True):
    """Book the attempt to order a top-up. `nonce` tells the first attempt from its repetitions."""

    id: Name
    org: OrgId
    amount_paise: Int64
    promo_code: Short | None = None
    nonce: Short = ""
    fingerprint: Short = ""


class OpenOrder(Struct, tag="open_order", tag_field="kind", frozen=True):
    """Record an order that Razorpay made, with what its promo code promised."""

    id: Name
    org: OrgId
    order_id: Name
    amount_paise: Int64
    promo_code: Short | None = None
    bonus_nano: Int64 = 0
    fingerprint: Short = ""


class FoundOrder(Struct, frozen=True):
    """An order as Razorpay has it, for an owner that has lost it."""

    amount_paise: Int64
    promo_code: Short | None = None


class Capture(Struct, tag="capture", tag_field="kind", frozen=True):
    """Razorpay has captured a payment: credit it, unless that has been done."""

    id: Name
    org: OrgId
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


class Fail(Struct, tag="fail", tag_field="kind", frozen=True):
    """Razorpay says that a payment failed."""

    id: Name
    org: OrgId
    payment_id: Name
    order_id: Name
    amount_paise: Int64
    currency: Short
    paid_ms: Int64
    method: Short = ""
    email: Short = ""
    contact: Short = ""
    fingerprint: Short = ""


class TakeRefund(Struct, tag="refund", tag_field="kind", frozen=True):
    """Razorpay has refunded a payment, or says that a refund of it `failed`."""

    id: Name
    org: OrgId
    refund_id: Name
    payment_id: Name
    amount_paise: Int64
    currency: Short
    failed: bool = False
    fingerprint: Short = ""


class Find(Struct, tag="find", tag_field="kind", frozen=True):
    """Ask for an org's order or payment by its id, or what a command was answered; changes nothing."""

    id: Name
    org: OrgId
    order_id: Short | None = None
    payment_id: Short | None = None
    answered: Short | None = None


class NoteStray(Struct, tag="note_stray", tag_field="kind", frozen=True):
    """Keep a payment of the Razorpay account that is no org's. Addressed by payment id, to no account."""

    id: Name
    payment_id: Name
    order_id: Short
    amount_paise: Int64
    currency: Short


class View(Struct, tag="view", tag_field="kind", frozen=True):
    """Ask for the account as it is now; changes nothing."""

    id: Name
    org: OrgId


class Barrier(Struct, tag="barrier", tag_field="kind", frozen=True):
    """Ask a partition's owner to answer once it has read the catalog and the promo codes up to an offset.

    It is addressed to a partition, not an org, and doubles as the question whether anybody owns it.
    """

    id: Name
    catalog_offset: Int64 = 0
    promos_offset: Int64 = 0


Question = View | Find | CheckPromo
"""These change nothing."""
ByPayment = Capture | Fail | TakeRefund
"""These are idempotent by the payment or refund they name; their own id matters where they came with one."""
AccountCommand = (
    SignUp
    | CreateKey
    | ChangeKey
    | Credit
    | SetAddress
    | SetThreshold
    | PrepareOrder
    | OpenOrder
    | ByPayment
    | Question
)
Command = AccountCommand | Barrier | NoteStray


def is_remembered(command: AccountCommand) -> bool:
    """Whether the answer to a command is kept, so that the same id gets the same answer again."""
    if isinstance(command, Question):
        return False
    return bool(command.fingerprint) or not isinstance(command, ByPayment)


class Refusal(Struct, frozen=True):
    """An expected no: `code` is one of the documented error codes, `param` the field it is about."""

    code: str
    message: str
    param: str | None = None


class Reply(Struct, frozen=True, omit_defaults=True):
    """What a command was answered, as it travels on `metering.replies`: a refusal, or else a result."""

    id: str
    result: Raw = Raw(b"null")
    refusal: Refusal | None = None


encode = msgspec.json.Encoder().encode
_decode_command = msgspec.json.Decoder(Command).decode
_decode_reply = msgspec.json.Decoder(Reply).decode


def decode_command(value: bytes | None) -> Command | str:
    """Return the command of a record's value, or what is wrong with it."""
    try:
        command: Command = _decode_command(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return command


def decode_reply(value: bytes) -> Reply:
    """Return the reply of a record's value. Raises msgspec.MsgspecError for anything else."""
    return _decode_reply(value)

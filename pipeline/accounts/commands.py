"""The commands that change an account, or ask about it, as they travel on `metering.billing`.

Owns: their shapes, the replies', and how both become bytes.
Called by: the API and the command line, which send them; `accounts/ledger.py`, which decides them.

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


class View(Struct, tag="view", tag_field="kind", frozen=True):
    """Ask for the account as it is now; changes nothing."""

    id: Name
    org: OrgId


class Barrier(Struct, tag="barrier", tag_field="kind", frozen=True):
    """Ask a partition's owner to answer once it has read the catalog up to an offset.

    It is addressed to a partition, not an org, and doubles as the question whether anybody owns it.
    """

    id: Name
    catalog_offset: Int64 = 0


AccountCommand = SignUp | CreateKey | ChangeKey | Credit | View
Command = AccountCommand | Barrier


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

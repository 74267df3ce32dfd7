"""What is known of an org: its money, its keys' spending, and its profile.

Owns: the shapes of an account and how they are kept in the state topic.
Called by: everything in `accounts/` and `posting/`.

An account is kept as two records, since a request changes only the first: `Spending` is small and
rewritten by every unit of work that charges the org; `Profile` is larger and changes by command.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from pipeline.outcomes import KeyRefusal

MONTHS_KEPT = 4
DAYS_KEPT = 3
UNREGISTERED_KEYS_KEPT = 256
TRIAL_REQUESTS_PER_DAY = 200
TRIAL_REQUESTS_PER_MINUTE = 60
ACTIVE_KEYS_MAX = 5
INACTIVE_KEYS_KEPT = 50
ANSWERS_KEPT = 64


class KeyUsage(Struct, array_like=True, gc=False):
    """What a key has used: nano-rupees debited by IST month (YYYYMM), requests by IST day.

    Months and days are the requests' own. Only the newest few are kept: events are at most 35 days
    old when they are charged, and no limit asks about an earlier month or day.
    """

    months: dict[int, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    trial: bool = False


class Refused(Struct, array_like=True, frozen=True, gc=False):
    """A window in which gateways refuse a key: `code`, from and until in milliseconds, and why.

    `limit` and `used` are nano-rupees where the budget is exceeded, requests where the daily limit is reached.
    """

    key_id: str
    code: KeyRefusal
    from_ms: int
    until_ms: int
    limit: int
    used: int


class Spending(Struct, array_like=True, gc=False):
    """The part of an account that requests change. Amounts in nano-rupees.

    The balance is never kept, only what was credited and debited. `verdict_nano` and `verdict_refused` are the
    balance and the refused windows of the last verdict, None and empty before the first. `entry_id` is the id
    of the newest ledger entry, 0 before one. `is_below` tells whether the balance was below the alert's
    threshold when last looked at, `alerted_ms` when the last alert was ordered: accounts/alerts.py. The fields
    are kept by position: a new one goes to the end.
    """

    credited_nano: int = 0
    debited_nano: int = 0
    keys: dict[str, KeyUsage] = field(default_factory=dict)
    verdict_nano: int | None = None
    verdict_refused: tuple[Refused, ...] = ()
    entry_id: int = 0
    is_below: bool = False
    alerted_ms: int = 0

    @property
    def balance_nano(self) -> int:
        """What the org may still spend; below zero where it has overdrawn."""
        return self.credited_nano - self.debited_nano


class Key(Struct):
    """An API key as its org sees it. The key itself is never kept: `hash` is its SHA-256 in hex."""

    key_id: str
    name: str
    prefix: str
    hash: str
    tier: str
    created_ms: int
    budget_nano: int | None = None
    daily_limit: int | None = None
    rpm_limit: int | None = None
    expires_ms: int | None = None
    revoked: bool = False
    version: int = 1


class RememberedAnswer(Struct, array_like=True):
    """What a command was answered, kept so that the same command again gets the same answer.

    `result` is JSON, kept as bytes: a `Raw` would be copied unframed into the profile's MessagePack.
    """

    command_id: str
    fingerprint: str
    at_ms: int
    result: bytes


class Address(Struct, array_like=True, frozen=True):
    """A billing address as it stands on receipts; `line2` and `gstin` may be absent."""

    name: str
    line1: str
    line2: str | None
    city: str
    state: str
    pin: str
    gstin: str | None = None


class Profile(Struct, omit_defaults=True):
    """The part of an account that only commands change.

    `redeemed` tells which payment each promo code was redeemed with, by the code's key.
    """

    name: str = ""
    email: str = ""
    signed_up_ms: int | None = None
    keys: dict[str, Key] = field(default_factory=dict)
    answers: list[RememberedAnswer] = field(default_factory=list)
    address: Address | None = None
    threshold_nano: int | None = None
    redeemed: dict[str, str] = field(default_factory=dict)


class Account(Struct, gc=False):
    """An org's account: its id, its spending and its profile."""

    org: str
    spending: Spending = field(default_factory=Spending)
    profile: Profile = field(default_factory=Profile)


_pack = msgspec.msgpack.Encoder().encode
_unpack_spending = msgspec.msgpack.Decoder(Spending).decode
_unpack_profile = msgspec.msgpack.Decoder(Profile).decode


def encode_spending(spending: Spending) -> bytes:
    """Return the bytes of a spending record's value."""
    return _pack(spending)


def encode_profile(profile: Profile) -> bytes:
    """Return the bytes of a profile record's value."""
    return _pack(profile)


def decode_account(org: str, spending: bytes | None, profile: bytes | None) -> Account:
    """Return the account that the two state records hold; a missing record is an empty part."""
    return Account(
        org,
        _unpack_spending(spending) if spending is not None else Spending(),
        _unpack_profile(profile) if profile is not None else Profile(),
    )


def daily_limit_of(key: Key | None, usage: KeyUsage) -> int | None:
    """Return the requests an IST day that a key may make, or None for no limit.

    A trial key that nobody registered is held to the trial ceiling too.
    """
    if key is None:
        return TRIAL_REQUESTS_PER_DAY if usage.trial else None
    if key.tier == "trial":
        return min(key.daily_limit or TRIAL_REQUESTS_PER_DAY, TRIAL_REQUESTS_PER_DAY)
    return key.daily_limit

"""What is known of an org: its money, its keys' spending, and its profile.

Owns: the shapes of an account and how they are kept in the state topic.
Called by: everything in `accounts/` and `posting/`.

An account is kept as two records, since a request changes only the first: `Spending` is small and
rewritten by every unit of work that charges the org; `Profile` is larger and changes by command. What requests need
of the profile is copied into the first, so that the second is decoded for commands alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct, field, structs

from pipeline.accounts.notices import BY_DEFAULT, NoticeSettings
from pipeline.outcomes import KeyRefusal

MONTHS_KEPT = 4
DAYS_KEPT = 3
UNREGISTERED_KEYS_KEPT = 256
TRIAL_REQUESTS_PER_DAY = 200
TRIAL_REQUESTS_PER_MINUTE = 60
ACTIVE_KEYS_MAX = 5
INACTIVE_KEYS_KEPT = 50
ANSWERS_KEPT = 64
"""Of commands whose sender alone may repeat them, within moments: posting/answers.py keeps what a caller may repeat."""


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


class Watched(Struct, array_like=True, frozen=True, gc=False):
    """The little of a profile that must be known after every charge, so that the profile itself need not be read.

    `threshold_nano` is the alert's; `limits` are, by key id, the budget in nano-rupees and the daily limit in
    requests of the registered keys that have either.
    """

    threshold_nano: int | None = None
    limits: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)


class Spending(Struct, gc=False, eq=False):
    """The part of an account that requests change. Amounts in nano-rupees.

    The balance is never kept, only what was credited and debited. `verdict_nano` and `verdict_refused` are the
    balance and the refused windows of the last verdict, None and empty before the first. `entry_id` is the id
    of the newest ledger entry, 0 before one. `is_below` tells whether the balance was below the alert's
    threshold when last looked at, `alerted_ms` when the last alert was ordered: accounts/alerts.py. `watched` is
    None where it has to be made from the profile again. `trial_days` are the requests of all trial keys together by
    IST day, those of keys that are gone too; only the newest days are kept.

    Most charges are of one key, so what a key used is decoded when it is asked for: `decoded` and `encoded` hold
    different keys, and `keys` is all of them.
    """

    credited_nano: int = 0
    debited_nano: int = 0
    decoded: dict[str, KeyUsage] = field(default_factory=dict)
    encoded: dict[str, Raw] = field(default_factory=dict)
    verdict_nano: int | None = None
    verdict_refused: tuple[Refused, ...] = ()
    entry_id: int = 0
    is_below: bool = False
    alerted_ms: int = 0
    watched: Watched | None = None
    trial_days: dict[int, int] = field(default_factory=dict)

    @property
    def balance_nano(self) -> int:
        """What the org may still spend; below zero where it has overdrawn."""
        return self.credited_nano - self.debited_nano

    @property
    def keys(self) -> dict[str, KeyUsage]:
        """What each key has used, all of them decoded; a change of it is a change of the account."""
        for key_id in tuple(self.encoded):
            self.usage(key_id)
        return self.decoded

    def usage(self, key_id: str) -> KeyUsage | None:
        """Return what a key has used, to be read or changed; None for a key that is not kept."""
        found = self.decoded.get(key_id)
        if found is None and key_id in self.encoded:
            found = self.decoded[key_id] = _unpack_usage(self.encoded.pop(key_id))
        return found

    def __eq__(self, other: object) -> bool:
        """Whether the same is known of both, whatever of it is decoded. `watched` follows from the profile."""
        return isinstance(other, Spending) and self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _values(self) -> tuple[object, ...]:
        return (
            self.credited_nano,
            self.debited_nano,
            self.keys,
            self.verdict_nano,
            self.verdict_refused,
            self.entry_id,
            self.is_below,
            self.alerted_ms,
            self.trial_days,
        )


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

    `redeemed` tells which payment each promo code was redeemed with, by the code's key. `unpaid` has the orders that
    nobody has paid yet, and attempts at one, and until when each counts: accounts/orders.py.
    """

    name: str = ""
    email: str = ""
    signed_up_ms: int | None = None
    keys: dict[str, Key] = field(default_factory=dict)
    answers: list[RememberedAnswer] = field(default_factory=list)
    address: Address | None = None
    threshold_nano: int | None = None
    redeemed: dict[str, str] = field(default_factory=dict)
    unpaid: dict[str, int] = field(default_factory=dict)
    notices: NoticeSettings = BY_DEFAULT


class _StoredSpending(Struct, array_like=True, gc=False):
    """A spending record's value, by position: a new field goes to the end, and makes a new format of the state.

    Format 1 ended before `watched`, which is None for it, and formats up to 3 before `trial_days`, which is empty.
    """

    credited_nano: int
    debited_nano: int
    keys: dict[str, Raw]
    verdict_nano: int | None
    verdict_refused: tuple[Refused, ...]
    entry_id: int
    is_below: bool
    alerted_ms: int
    watched: Watched | None = None
    trial_days: dict[int, int] = {}


class _StoredKey(Struct, array_like=True):
    """A key in a profile record, by position. Its hash is kept as the bytes that the hex stands for, half as many."""

    key_id: str
    name: str
    prefix: str
    hash: bytes
    tier: str
    created_ms: int
    budget_nano: int | None
    daily_limit: int | None
    rpm_limit: int | None
    expires_ms: int | None
    revoked: bool
    version: int


class _StoredProfile(Struct, array_like=True):
    """A profile record's value, by position, the fields of `Profile` in their order.

    Format 1 was a map by name; formats up to 3 ended before `unpaid`, format 4 before `notices`.
    """

    name: str
    email: str
    signed_up_ms: int | None
    keys: list[_StoredKey]
    answers: list[RememberedAnswer]
    address: Address | None
    threshold_nano: int | None
    redeemed: dict[str, str]
    unpaid: dict[str, int] = {}
    notices: NoticeSettings | None = None


_HEX, _TEXT = b"\x01", b"\x00"
"""What the rest of a key's hash is: what hex stands for, or a text that is no SHA-256 in hex."""
_SHA256 = re.compile("[0-9a-f]{64}")
_ARRAY = 0x9
"""The first four bits of an array of up to fifteen elements in MessagePack; a map of as many has 0x8."""

_pack = msgspec.msgpack.Encoder().encode
_unpack_usage = msgspec.msgpack.Decoder(KeyUsage).decode
_unpack_spending = msgspec.msgpack.Decoder(_StoredSpending).decode
_unpack_profile = msgspec.msgpack.Decoder(_StoredProfile).decode
_unpack_profile_of_format_1 = msgspec.msgpack.Decoder(Profile).decode


def encode_spending(account: Account) -> bytes:
    """Return the bytes of a spending record's value: the part of the account that requests change."""
    s = account.spending
    if s.watched is None:
        s.watched = watched_of(account.profile)
    keys = {**s.encoded, **s.decoded} if s.encoded else s.decoded
    return _pack(
        (
            s.credited_nano,
            s.debited_nano,
            keys,
            s.verdict_nano,
            s.verdict_refused,
            s.entry_id,
            s.is_below,
            s.alerted_ms,
            s.watched,
            s.trial_days,
        )
    )


def decode_spending(value: bytes) -> Spending:
    """Return the spending of a record's value, of this format or an older one."""
    s = _unpack_spending(value)
    return Spending(
        s.credited_nano,
        s.debited_nano,
        {},
        s.keys,
        s.verdict_nano,
        s.verdict_refused,
        s.entry_id,
        s.is_below,
        s.alerted_ms,
        s.watched,
        s.trial_days,
    )


def encode_profile(profile: Profile) -> bytes:
    """Return the bytes of a profile record's value."""
    return _pack(
        _StoredProfile(
            profile.name,
            profile.email,
            profile.signed_up_ms,
            [_stored(key) for key in profile.keys.values()],
            profile.answers,
            profile.address,
            profile.threshold_nano,
            profile.redeemed,
            profile.unpaid,
            profile.notices if profile.notices != BY_DEFAULT else None,
        )
    )


def decode_profile(value: bytes) -> Profile:
    """Return the profile of a record's value, of this format or an older one."""
    if value[0] >> 4 != _ARRAY:
        return _unpack_profile_of_format_1(value)
    stored = _unpack_profile(value)
    values = structs.asdict(stored)
    values["keys"] = {key.key_id: _restored(key) for key in stored.keys}
    values["notices"] = stored.notices or BY_DEFAULT
    return Profile(**values)


def _stored(key: Key) -> _StoredKey:
    hash_ = _HEX + bytes.fromhex(key.hash) if _SHA256.fullmatch(key.hash) else _TEXT + key.hash.encode()
    return _StoredKey(*structs.astuple(structs.replace(key, hash=hash_)))


def _restored(stored: _StoredKey) -> Key:
    kind, hash_ = stored.hash[:1], stored.hash[1:]
    return Key(
        *structs.astuple(structs.replace(stored, hash=hash_.hex() if kind == _HEX else hash_.decode()))
    )


class Account(Struct, gc=False, eq=False):
    """An org's account: its id, its spending and its profile.

    `profiles` holds the encoded profile, if there is one, until `profile` is asked for. `limit_reached` tells that
    a charge may have brought a key to its limit: accounts/review.py.
    """

    org: str
    spending: Spending = field(default_factory=Spending)
    decoded_profile: Profile | None = None
    profiles: Mapping[str, bytes] | None = None
    limit_reached: bool = False

    @property
    def profile(self) -> Profile:
        """The part of the account that only commands change. Setting it makes `watched` to be made again."""
        if self.decoded_profile is None:
            encoded = self.profiles.get(self.org) if self.profiles is not None else None
            self.decoded_profile = decode_profile(encoded) if encoded is not None else Profile()
        return self.decoded_profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self.decoded_profile = profile
        self.spending.watched = None

    def __eq__(self, other: object) -> bool:
        """Whether the same is known of both, whatever of it is decoded."""
        if not isinstance(other, Account):
            return NotImplemented
        mine, others = (self.org, self.spending, self.profile), (other.org, other.spending, other.profile)
        return mine == others

    __hash__ = None  # type: ignore[assignment]  # it changes


def daily_limit_of(key: Key | None, usage: KeyUsage) -> int | None:
    """Return the requests an IST day that a key may make, or None for no limit.

    A trial key that nobody registered is held to the trial ceiling too.
    """
    if key is None:
        return TRIAL_REQUESTS_PER_DAY if usage.trial else None
    if key.tier == "trial":
        return min(key.daily_limit or TRIAL_REQUESTS_PER_DAY, TRIAL_REQUESTS_PER_DAY)
    return key.daily_limit


_UNUSED = KeyUsage()


def watched_of(profile: Profile) -> Watched:
    """Return what of a profile must be known after every charge."""
    limits = {key_id: (key.budget_nano, daily_limit_of(key, _UNUSED)) for key_id, key in profile.keys.items()}
    limited = {key_id: of_key for key_id, of_key in limits.items() if of_key != (None, None)}
    return Watched(profile.threshold_nano, limited)

"""API keys: the rules for making and changing one, and a key's record on `metering.keys`.

Owns: that an org has at most `ACTIVE_KEYS_MAX` active keys and makes at most `KEYS_A_DAY` in 24 hours, that no two
active ones have the same name, that a trial key's limits stay below the trial ceilings, which fields may change, and
how long a key may be valid.
Called by: `accounts/decide.py` for the commands `create_key` and `change_key`; `posting/commands.py` writes the
records, and gateways and the server read them.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET, structs

from pipeline.accounts.commands import ChangeKey, CommandRefusal, CreateKey
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import (
    ACTIVE_KEYS_MAX,
    INACTIVE_KEYS_KEPT,
    TRIAL_REQUESTS_PER_DAY,
    TRIAL_REQUESTS_PER_MINUTE,
    Account,
    Key,
    Profile,
)
from pipeline.accounts.names import name_or_refusal
from pipeline.accounts.results import KeyChanged, KeyCreated
from pipeline.formats import KEYS
from pipeline.ist import DAY_MS
from pipeline.money import MAX_RUPEES, NANO_PER_RUPEE
from pipeline.outcomes import RefusalCode

TIERS = ("standard", "trial")
PREFIX_CHARS = 12
"""How much of a key is kept for display."""
EXPIRY_DAYS_MAX = 365
COUNT_MAX = 1_000_000_000
KEYS_A_DAY = 50
"""How many keys an org makes in 24 hours, those counted that are revoked again: no more than are kept of them."""


class KeyRecord(Key, kw_only=True, tag_field="format", tag=KEYS.number):
    """A key as it travels on `metering.keys`, where the record with the highest version counts."""

    org: str


_encode = msgspec.json.Encoder().encode
_decode = KEYS.decoder(KeyRecord)


def encode_key(org: str, key: Key) -> bytes:
    """Return the value of a key's record on `metering.keys`."""
    return _encode(KeyRecord(org=org, **structs.asdict(key)))


def decode_key(value: bytes) -> KeyRecord:
    """Return the key of a record's value.

    Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError where it is none.
    """
    return _decode(value)


def hash_key(api_key: str) -> str:
    """Return the SHA-256 of an API key in hex: enough for 192 random bits, and all that is kept of it."""
    return hashlib.sha256(api_key.encode()).hexdigest()


def is_active(key: Key, at_ms: int) -> bool:
    """Whether a key may be used at an instant: neither revoked nor expired."""
    return not key.revoked and (key.expires_ms is None or key.expires_ms > at_ms)


def create(account: Account, command: CreateKey, at_ms: int) -> Posting[KeyCreated] | CommandRefusal:
    """Register a key, or say which rule is against it."""
    active = [key for key in account.profile.keys.values() if is_active(key, at_ms)]
    if len(active) >= ACTIVE_KEYS_MAX:
        return CommandRefusal(
            RefusalCode.KEY_LIMIT_REACHED, f"an org has at most {ACTIVE_KEYS_MAX} active keys"
        )
    made = sorted(key.created_ms for key in account.profile.keys.values() if key.created_ms > at_ms - DAY_MS)
    if len(made) >= KEYS_A_DAY:
        return CommandRefusal(
            RefusalCode.RATE_LIMIT_EXCEEDED,
            f"an org makes at most {KEYS_A_DAY} keys in 24 hours, revoked ones counted",
            retry_after_s=max(1, -(-(made[-KEYS_A_DAY] + DAY_MS - at_ms) // 1000)),
        )
    if command.key_id in account.profile.keys:
        return CommandRefusal(RefusalCode.INVALID_REQUEST, "this key id is taken", "key_id")
    name = name_or_refusal(command.name)
    if isinstance(name, CommandRefusal):
        return name
    key = Key(
        key_id=command.key_id,
        name=name,
        prefix=command.prefix,
        hash=command.hash,
        tier=command.tier,
        created_ms=at_ms,
        budget_nano=command.budget_nano,
        daily_limit=command.daily_limit,
        rpm_limit=command.rpm_limit,
        expires_ms=command.expires_ms,
    )
    refusal = _check_expiry(key.expires_ms, at_ms) or _check(key, active)
    if refusal is not None:
        return refusal
    profile, gone = _with_key(account.profile, key, at_ms)
    created = KeyCreated(key.key_id, key.version, command.nonce)
    return Posting(created, profile=profile, keys=(key,), gone_keys=gone)


def change(account: Account, command: ChangeKey, at_ms: int) -> Posting[KeyChanged] | CommandRefusal:
    """Change a key's name, limits or expiry, or revoke it; what is already so is no error."""
    key = account.profile.keys.get(command.key_id)
    if key is None:
        return CommandRefusal(RefusalCode.NOT_FOUND, "no such key")
    given = {
        name: value
        for name in ("name", "budget_nano", "daily_limit", "rpm_limit", "expires_ms")
        if (value := getattr(command, name)) is not UNSET
    }
    if "name" in given:
        name = name_or_refusal(given["name"])
        if isinstance(name, CommandRefusal):
            return name
        given["name"] = name
    changed = structs.replace(key, **given, revoked=key.revoked or command.revoked)
    if changed == key:
        return Posting(KeyChanged(key.key_id, key.version))
    changed.version = key.version + 1
    active = [k for k in account.profile.keys.values() if is_active(k, at_ms) and k.key_id != key.key_id]
    if is_active(changed, at_ms):
        if not is_active(key, at_ms) and len(active) >= ACTIVE_KEYS_MAX:
            return CommandRefusal(
                RefusalCode.KEY_LIMIT_REACHED, f"an org has at most {ACTIVE_KEYS_MAX} active keys"
            )
    else:
        active = []
    expiry = None if changed.expires_ms == key.expires_ms else changed.expires_ms
    refusal = _check_expiry(expiry, at_ms) or _check(changed, active)
    if refusal is not None:
        return refusal
    profile, gone = _with_key(account.profile, changed, at_ms)
    return Posting(KeyChanged(key.key_id, changed.version), profile=profile, keys=(changed,), gone_keys=gone)


def _check_expiry(expires_ms: int | None, at_ms: int) -> CommandRefusal | None:
    """Return why an expiry is not allowed, None where it is; no expiry is allowed.

    The sender counted the days from its own clock, so a day more than the longest expiry is taken.
    """
    if expires_ms is None or at_ms < expires_ms <= at_ms + (EXPIRY_DAYS_MAX + 1) * DAY_MS:
        return None
    return CommandRefusal(
        RefusalCode.INVALID_REQUEST,
        f"a key expires between 1 and {EXPIRY_DAYS_MAX} days from now",
        "expires_days",
    )


def _check(key: Key, others_active: list[Key]) -> CommandRefusal | None:
    """Return which rule a key breaks, given the org's other active keys; None where it breaks none."""
    if key.tier not in TIERS:
        return CommandRefusal(RefusalCode.INVALID_REQUEST, "tier is standard or trial", "tier")
    if any(other.name == key.name for other in others_active):
        return CommandRefusal(
            RefusalCode.DUPLICATE_KEY_NAME, f"an active key is named {key.name!r} already", "name"
        )
    if key.budget_nano is not None and not 0 <= key.budget_nano <= MAX_RUPEES * NANO_PER_RUPEE:
        return CommandRefusal(RefusalCode.INVALID_REQUEST, "the budget is out of range", "budget_inr")
    for param, value in (("daily_limit", key.daily_limit), ("rpm_limit", key.rpm_limit)):
        if value is not None and not 1 <= value <= COUNT_MAX:
            return CommandRefusal(RefusalCode.INVALID_REQUEST, f"{param} is out of range", param)
    return _check_trial(key) if key.tier == "trial" else None


def _check_trial(key: Key) -> CommandRefusal | None:
    """Return which trial ceiling a trial key's own limits exceed, None where none."""
    if (key.daily_limit or 0) > TRIAL_REQUESTS_PER_DAY:
        return CommandRefusal(
            RefusalCode.TRIAL_CEILING,
            f"a trial key makes at most {TRIAL_REQUESTS_PER_DAY} requests a day",
            "daily_limit",
        )
    if (key.rpm_limit or 0) > TRIAL_REQUESTS_PER_MINUTE:
        return CommandRefusal(
            RefusalCode.TRIAL_CEILING,
            f"a trial key makes at most {TRIAL_REQUESTS_PER_MINUTE} requests a minute",
            "rpm_limit",
        )
    return None


def _with_key(profile: Profile, key: Key, at_ms: int) -> tuple[Profile, tuple[str, ...]]:
    """Return the profile with a key, and the ids of the keys that had to go for it.

    Of the revoked and expired ones only those that were changed last are kept: the key comes last, so that the first
    ones are those that nothing was done to for longest. A gateway that misses a key's revocation and finds it gone
    has missed the 50 that came after it too.
    """
    keys = {
        **{key_id: kept for key_id, kept in profile.keys.items() if key_id != key.key_id},
        key.key_id: key,
    }
    past = [k.key_id for k in keys.values() if not is_active(k, at_ms)]
    gone = tuple(past[: max(0, len(past) - INACTIVE_KEYS_KEPT)])
    for key_id in gone:
        del keys[key_id]
    return structs.replace(profile, keys=keys), gone

"""Promo codes: what they are, and whether an org may redeem one.

Owns: the code's form, its record on `metering.promos`, the table of all, and the rules of redemption.
Called by: `accounts/orders.py`, `accounts/captures.py`; the worker fills the table, `cli/promo.py` makes codes.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from pipeline.accounts.model import Profile
from pipeline.formats import PROMOS
from pipeline.money import NANO_PER_RUPEE

BONUS_MAX_RUPEES = 100_000

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,31}", re.ASCII)


class Promo(Struct, frozen=True, tag_field="format", tag=PROMOS.number):
    """A promo code: the bonus in nano-rupees, and the instant from which it is no good any more."""

    code: str
    bonus_nano: int
    created_ms: int
    expires_ms: int | None = None


class PromoError(ValueError):
    """A promo code that cannot be made; the message says why."""


_encode = msgspec.json.Encoder().encode
_decode = PROMOS.decoder(Promo)


def key_of(code: str) -> str:
    """Return what a code is known by: people type it in any case, with spaces around it."""
    return code.strip().upper()


def check_promo(promo: Promo) -> Promo:
    """Return a promo that may be published. Raises PromoError."""
    if _CODE.fullmatch(promo.code) is None:
        raise PromoError("a code is 3 to 32 letters, digits, - and _, beginning with a letter or digit")
    if not 0 < promo.bonus_nano <= BONUS_MAX_RUPEES * NANO_PER_RUPEE:
        raise PromoError(f"the bonus is above 0 and at most {BONUS_MAX_RUPEES} rupees")
    return promo


def encode_promo(promo: Promo) -> tuple[bytes, bytes]:
    """Return the key and value of a promo's record; the last one of a code counts."""
    return key_of(promo.code).encode(), _encode(promo)


def decode_promo(value: bytes) -> Promo:
    """Return the promo of a record's value.

    Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError where it is none.
    """
    return _decode(value)


class PromoTable:
    """All promo codes."""

    def __init__(self) -> None:
        """Start empty."""
        self._promos: dict[str, Promo] = {}

    def add(self, promo: Promo) -> None:
        """Take in a promo, in the place of an earlier one of the same code."""
        self._promos[key_of(promo.code)] = promo

    def remove(self, code: str) -> None:
        """Take a code out, if it is there: it was deleted."""
        self._promos.pop(key_of(code), None)

    def get(self, code: str | None) -> Promo | None:
        """Return the promo of a code as somebody typed it."""
        return self._promos.get(key_of(code)) if code is not None else None


def is_redeemed(profile: Profile, code: str) -> bool:
    """Whether an org has had the bonus of a code."""
    return key_of(code) in profile.redeemed


def is_good(promo: Promo | None, at_ms: int) -> bool:
    """Whether a code exists and has not expired at an instant."""
    return promo is not None and (promo.expires_ms is None or at_ms < promo.expires_ms)

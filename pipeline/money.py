"""Money as integers: nano-rupees inside, rupees and paise only at the edges.

Owns: the units, and the exact conversions between text and integers. No float is ever involved.
Called by: everything that shows, reads or computes an amount.

1 rupee = 100 paise = 1,000,000,000 nano-rupees. A rate of 0.001 rupees per million tokens is exactly
1 nano-rupee a token, so every catalog rate is an integer and a cost never needs rounding.
"""

from __future__ import annotations

import re
from decimal import Decimal

NANO_PER_RUPEE = 1_000_000_000
NANO_PER_PAISA = 10_000_000
RATE_DECIMALS = 3
MAX_RUPEES = 1_000_000_000
"""The largest amount accepted from outside: far above any real one, far below 2**63 nano-rupees."""


TEXT_MAX = 100

_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?", re.ASCII)


class AmountError(ValueError):
    """An amount of money that is not a number, too precise, or out of range."""


def parse_inr(text: str | int | Decimal, *, decimals: int = 9) -> int:
    """Return the nano-rupees of an amount in rupees, exactly.

    Raises AmountError where the text is no plain decimal number, has more than `decimals` decimals,
    or lies beyond MAX_RUPEES on either side. The digits are counted, never computed with: Decimal
    rounds to its context's precision, and 1E+999999 must cost nothing.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if abs(text) > MAX_RUPEES:
            raise AmountError("the amount in rupees is out of range")
        return text * NANO_PER_RUPEE
    if not isinstance(text, str | Decimal):
        raise AmountError(f"{text!r} is not an amount in rupees")
    shown = str(text)
    if len(shown) > TEXT_MAX:
        raise AmountError(f"{shown[:20]}... is too long for an amount in rupees")
    match = _NUMBER.fullmatch(shown)
    if match is None or not (match[2] or match[3]):
        raise AmountError(f"{shown!r} is not an amount in rupees")
    sign, whole, fraction = match[1], match[2], match[3] or ""
    digits = (whole + fraction).strip("0")
    if not digits:
        return 0
    lowest = int(match[4] or 0) - len(fraction) + len(whole + fraction) - len((whole + fraction).rstrip("0"))
    if lowest + len(digits) > len(str(MAX_RUPEES)):
        raise AmountError(f"{shown} rupees is out of range")
    if lowest < -decimals:
        raise AmountError(f"{shown} has more than {decimals} decimals")
    amount_nano = int(digits + "0" * (lowest + 9))
    if amount_nano > MAX_RUPEES * NANO_PER_RUPEE:
        raise AmountError(f"{shown} rupees is out of range")
    return -amount_nano if sign == "-" else amount_nano


def format_inr(amount_nano: int) -> str:
    """Return the amount in rupees as a JSON number: exact, at most 9 decimals, no trailing zeros."""
    sign = "-" if amount_nano < 0 else ""
    rupees, fraction = divmod(abs(amount_nano), NANO_PER_RUPEE)
    if fraction == 0:
        return f"{sign}{rupees}"
    return f"{sign}{rupees}.{fraction:09d}".rstrip("0")


def rate_nano_per_token(inr_per_mtok: str | int | Decimal) -> int:
    """Return the nano-rupees one token costs at a rate in rupees per million tokens.

    Raises AmountError for a negative rate or one with more than three decimals.
    """
    rate_nano = parse_inr(inr_per_mtok, decimals=RATE_DECIMALS)
    if rate_nano < 0:
        raise AmountError(f"a rate cannot be negative: {inr_per_mtok}")
    return rate_nano // 1_000_000


def format_rate(rate_nano: int) -> str:
    """Return a rate in nano-rupees a token as rupees per million tokens, a JSON number."""
    return format_inr(rate_nano * 1_000_000)

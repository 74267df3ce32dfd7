"""Money as integers: nano-rupees inside, rupees and paise only at the edges.

Owns: the units, and the exact conversions between text and integers. No float is ever involved.
Called by: everything that shows, reads or computes an amount.

1 rupee = 100 paise = 1,000,000,000 nano-rupees. A rate of 0.001 rupees per million tokens is exactly
1 nano-rupee a token, so every catalog rate is an integer and a cost never needs rounding.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

NANO_PER_RUPEE = 1_000_000_000
NANO_PER_PAISA = 10_000_000
RATE_DECIMALS = 3
MAX_RUPEES = 1_000_000_000
"""The largest amount accepted from outside: far above any real one, far below 2**63 nano-rupees."""


class AmountError(ValueError):
    """An amount of money that is not a number, too precise, or out of range."""


def parse_inr(text: str | int | Decimal, *, decimals: int = 9) -> int:
    """Return the nano-rupees of an amount in rupees, exactly.

    Raises AmountError where the text is no plain decimal number, has more than `decimals` decimals,
    or lies beyond MAX_RUPEES on either side.
    """
    try:
        amount = Decimal(text)
    except (InvalidOperation, ValueError, TypeError):
        raise AmountError(f"{text!r} is not an amount in rupees") from None
    if not amount.is_finite():
        raise AmountError(f"{text!r} is not an amount in rupees")
    if abs(amount) > MAX_RUPEES:
        raise AmountError(f"{text} rupees is out of range")
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > decimals:
        raise AmountError(f"{text} has more than {decimals} decimals")
    return int(amount.scaleb(9))


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

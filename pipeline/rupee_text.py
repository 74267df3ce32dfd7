"""Amounts as people read them: rupees in Indian grouping, and in words; counts in the same grouping.

Owns: how an amount is written for a person. What programs read is `money.format_inr`.
Called by: receipts, mails and pages. No amount is ever rounded up, and none goes through a float.
"""

from __future__ import annotations

from decimal import Decimal

from babel.numbers import format_decimal
from num2words import num2words

from pipeline.money import NANO_PER_PAISA, NANO_PER_RUPEE, AmountError

_EXACT = "#,##,##0.00#######"
_COUNT = "#,##,##0"


def grouped(amount_nano: int, *, symbol: str = "₹") -> str:
    """Return an amount as ₹1,23,456.78: exact, two decimals at least, up to nine where there are more."""
    sign = "-" if amount_nano < 0 else ""
    rupees = Decimal(abs(amount_nano)).scaleb(-9)
    return f"{sign}{symbol}{format_decimal(rupees, format=_EXACT, locale='en_IN')}"


def grouped_paise(amount_nano: int, *, symbol: str = "₹") -> str:
    """Return an amount with two decimals: what is below a paisa is left off, towards the lower amount."""
    return grouped(amount_nano - amount_nano % NANO_PER_PAISA, symbol=symbol)


def grouped_count(count: int) -> str:
    """Return a count as 1,23,456."""
    return str(format_decimal(count, format=_COUNT, locale="en_IN"))


def in_words(amount_nano: int) -> str:
    """Return an amount in words, as on a cheque: Rupees one lakh and paise fifty only.

    Raises AmountError for an amount below zero or with a part of a paisa: neither can be paid.
    """
    if amount_nano < 0 or amount_nano % NANO_PER_PAISA:
        raise AmountError("only whole paise, none below zero, are written in words")
    rupees, rest_nano = divmod(amount_nano, NANO_PER_RUPEE)
    paise = rest_nano // NANO_PER_PAISA
    and_paise = f" and paise {_words(paise)}" if paise else ""
    return f"Rupees {_words(rupees)}{and_paise} only"


def _words(number: int) -> str:
    words: str = num2words(number, lang="en_IN")
    return words.replace(",", "")

"""What a request may cost, as gateways tell it: text into nano-rupees, fast.

Owns: which amounts may be reserved.
Called by: `gateway/admission/admission.py`. Next: `money.py` reads whatever is not plain.

Costs vary from request to request, and each is read before its request is served.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.money import AmountError, parse_inr

Amount = str | int | Decimal
DIGITS = 9
"""So many decimals an amount may have; so many digits before them are surely in range."""
KEPT = 16_384

_scale = tuple(10 ** (DIGITS - decimals) for decimals in range(DIGITS + 1))
_known: dict[str, int] = {}


def amount_nano(amount_inr: Amount) -> int:
    """Return an amount to reserve in nano-rupees. Raises AmountError for a float or a negative one."""
    if not isinstance(amount_inr, str):
        return _read(amount_inr)
    nano = _known.get(amount_inr)
    if nano is None:
        whole, _, fraction = amount_inr.partition(".")
        digits = whole + fraction
        decimals = len(fraction)
        plain = 0 < len(digits) - decimals <= DIGITS and decimals <= DIGITS
        if plain and digits.isdecimal() and digits.isascii():
            nano = int(digits) * _scale[decimals]
        else:
            nano = _read(amount_inr)
        if len(_known) >= KEPT:
            _known.clear()
        _known[amount_inr] = nano
    return nano


def forget() -> None:
    """Forget the amounts that were read, for those who measure."""
    _known.clear()


def _read(amount_inr: Amount) -> int:
    if isinstance(amount_inr, float):
        raise AmountError(f"{amount_inr!r} is a float; give the amount as a string or a Decimal")
    nano = parse_inr(amount_inr)
    if nano < 0:
        raise AmountError(f"{amount_inr} is negative")
    return nano

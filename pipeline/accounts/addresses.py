"""The billing address and the alert's threshold: what an org may set of them.

Owns: what a billing address needs to stand on a receipt, and the threshold's bounds.
Called by: `accounts/decide.py`. Next: `accounts/alerts.py` heeds the threshold.
"""

from __future__ import annotations

import re

from msgspec import structs

from pipeline.accounts.commands import CommandRefusal, SetAddress, SetThreshold
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account, Address
from pipeline.accounts.results import AddressSet, ThresholdSet, view_of_address
from pipeline.money import MAX_RUPEES, NANO_PER_RUPEE
from pipeline.outcomes import RefusalCode

LINE_MAX = 120

_PIN = re.compile(r"[1-9][0-9]{5}")
_GSTIN = re.compile(r"[0-9]{2}[A-Z]{5}[0-9]{4}[A-Z][0-9A-Z]Z[0-9A-Z]")

_REQUIRED = ("name", "line1", "city", "state")
_LINES = ("name", "line1", "line2", "city", "state")


def is_pin(text: str) -> bool:
    """Whether a text has the form of an Indian PIN code."""
    return _PIN.fullmatch(text) is not None


def set_address(account: Account, command: SetAddress) -> Posting[AddressSet] | CommandRefusal:
    """Set the billing address, or say which field is not as it has to be."""
    lines = {field: " ".join((getattr(command, field) or "").split()) for field in _LINES}
    for field in _REQUIRED:
        if not lines[field]:
            return CommandRefusal(RefusalCode.INVALID_REQUEST, f"{field} is missing", field)
    for field, line in lines.items():
        if len(line) > LINE_MAX:
            return CommandRefusal(
                RefusalCode.INVALID_REQUEST, f"{field} has more than {LINE_MAX} characters", field
            )
        if not line.isprintable():
            return CommandRefusal(
                RefusalCode.INVALID_REQUEST, f"{field} holds characters that cannot be printed", field
            )
    pin, gstin = command.pin.strip(), (command.gstin or "").strip().upper()
    if not is_pin(pin):
        return CommandRefusal(
            RefusalCode.INVALID_REQUEST, "pin is six digits and does not begin with 0", "pin"
        )
    if gstin and _GSTIN.fullmatch(gstin) is None:
        return CommandRefusal(
            RefusalCode.INVALID_REQUEST, "gstin is 15 characters such as 27AAPFU0939F1ZV", "gstin"
        )
    address = Address(**lines, pin=pin, gstin=gstin or None)
    if command.line2 is None:
        address = structs.replace(address, line2=None)
    profile = structs.replace(account.profile, address=address)
    return Posting(AddressSet(view_of_address(address)), profile=profile)


def set_threshold(account: Account, command: SetThreshold) -> Posting[ThresholdSet] | CommandRefusal:
    """Set the balance below which the org gets a mail, or with None turn that off."""
    threshold_nano = command.threshold_nano
    if threshold_nano is not None and not 0 <= threshold_nano <= MAX_RUPEES * NANO_PER_RUPEE:
        return CommandRefusal(RefusalCode.INVALID_REQUEST, "the threshold is out of range", "threshold_inr")
    profile = structs.replace(account.profile, threshold_nano=threshold_nano)
    return Posting(ThresholdSet(threshold_nano), profile=profile)

"""Read the lines of a proof, each in the one way that its values are written in. Pure.

Owns: what is a line of which kind, and that no byte of one can be another. docs/statements.md specifies the lines.
Called by: `notary/check.py`, which looks at what they say.

A line is decoded, written again, and has to be the same bytes: so whatever is changed in it changes a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from hashlib import sha256
from typing import TypeVar

import msgspec

from pipeline import ist
from pipeline.catalog.rates import Rate
from pipeline.journal import LedgerRow, RequestRow, Row
from pipeline.notary.chain import ENTRY_START, REQUEST_START, rate_line, row_line
from pipeline.usage import OTHER_CLASSES

T = TypeVar("T")
R = TypeVar("R", RequestRow, LedgerRow)
HASH_DIGITS = 64


class ProofError(Exception):
    """A proof does not hold; the message names the line and what is wrong there."""


class ProofLines:
    """The lines of a proof, one after the other, and the hash of those before."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """Take them with their line feeds, and go to the first."""
        self._lines = iter(lines)
        self.number = 0
        self.digest = sha256()
        self.line = b""
        self.next()

    def next(self) -> None:
        """Go to the next line; an empty one where there is no more. Raises ProofError for one without its line feed."""
        if self.line:
            self.digest.update(self.line + b"\n")
        raw = next(self._lines, b"")
        self.number += 1
        self.line = raw.removesuffix(b"\n")
        if raw and raw != self.line + b"\n":
            raise ProofError("it does not end with a line feed")

    def all_of(self, start: bytes) -> Iterator[bytes]:
        """Yield the lines from here on that begin so."""
        while self.line.startswith(start):
            yield self.line
            self.next()


def values_of(kind: type[T], line: bytes, write: Callable[[T], bytes]) -> T:
    """Return a line's values. Raises ProofError where it is no such line, or is written in another way than that."""
    try:
        value = msgspec.json.decode(line, type=kind)
        if write(value) == line:
            return value
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise ProofError(f"no line of this kind, or not in its place: {error}") from None
    raise ProofError("it is not written in the one way that its values are written in")


def hex_bytes(text: str, digits: int) -> bytes:
    """Return the bytes of a text in lower-case hex. Raises ProofError."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(text) != digits or value.hex() != text:
        raise ProofError(f"{text[:80]!r} is not {digits} lower-case hex digits")
    return value


def rate_of(line: bytes) -> Rate:
    """Return the rate of a line. Raises ProofError where it is none, or is written in another way than that."""
    prices = 3 + len(OTHER_CLASSES)
    try:
        _, model, provider, from_ms, *amounts, request_nano, tiers = msgspec.json.decode(line)
        if len(amounts) != prices or any(len(tier) != prices + 1 for tier in tiers):
            raise ProofError(f"a rate and its tiers have {prices} prices")
        rate = msgspec.convert(
            {
                "model": model,
                "provider": provider,
                "from_ms": from_ms,
                **_prices(amounts),
                "request_nano": request_nano,
                "tiers": [{"above_prompt_tokens": above, **_prices(rest)} for above, *rest in tiers],
            },
            Rate,
        )
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ProofError(f"no rate: {error}") from None
    bounds = [tier.above_prompt_tokens for tier in rate.tiers]
    if rate_line(rate) != line or bounds != sorted(set(bounds), reverse=True):
        raise ProofError("it is not written in the one way that its values are written in")
    return rate


def _prices(amounts: list[int]) -> dict[str, object]:
    input_nano, cached_nano, output_nano, *others = amounts
    return {
        "input_nano": input_nano,
        "cached_nano": cached_nano,
        "output_nano": output_nano,
        "others_nano": others,
    }


def row_of(line: bytes) -> Row:
    """Return the request or the ledger entry of a line. Raises ProofError as `rate_of` does."""
    if line.startswith(REQUEST_START):
        return _array(RequestRow, line, REQUEST_START)
    return _array(LedgerRow, line, ENTRY_START)


def _array(kind: type[R], line: bytes, start: bytes) -> R:
    try:
        row = msgspec.json.decode(b"[" + line.removeprefix(start), type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ProofError(f"no row: {error}") from None
    if row_line(row) != line:
        raise ProofError("it is not written in the one way that its values are written in")
    return row


def day_number(text: str) -> int:
    """Return an IST date as a day's number. Raises ProofError."""
    try:
        calendar = date.fromisoformat(text)
    except ValueError:
        raise ProofError(f"{text!r} is no date") from None
    if calendar.isoformat() != text:
        raise ProofError(f"{text!r} is no date written as 2026-10-05")
    return ist.day_of_date(calendar)

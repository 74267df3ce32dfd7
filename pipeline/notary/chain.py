"""The running hash of an org: each row of the journal, hashed over the one before. Pure.

Owns: the bytes that a row and a rate are hashed as, and what is known of an org after each row.
Called by: `notary/day.py` folds the journal; `notary/check.py` folds the rows of a proof.

The bytes are specified in docs/statements.md. They may never change: what was signed stays signed. Whoever adds a column
to the journal's rows leaves it out of the line, from the last column backwards, where it holds its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec
from msgspec import Struct

from pipeline.catalog.rates import Rate, Tier
from pipeline.catalog.rating import is_free
from pipeline.journal import LedgerRow, RequestRow, Row

HASH_BYTES = 32
REQUEST_START, ENTRY_START, RATE_START = b'["request",', b'["entry",', b'["rate",'
NO_RATE = bytes(HASH_BYTES)
"""Stands for the rate of a row that was charged by none: a free request, a ledger entry."""
ROW_TAG = b"\x00"
"""What is hashed begins with a byte that says what it is, so that nothing hashed passes for something else."""

_encode = msgspec.json.Encoder().encode

RateKey = tuple[str, str, int]
"""(model, provider, start in ms) of a rate."""
HashOfRate = Callable[[RateKey], bytes]
"""Returns the hash of a rate's line. Raises UnknownRateError."""


class UnknownRateError(Exception):
    """A row names a rate that is not in the catalog. The message says which row."""


class OrgState(Struct, frozen=True, array_like=True):
    """What is known of an org after some of its rows: how many, the balance they come to, and their running hash."""

    rows: int
    balance_nano: int
    hash: bytes


NOTHING = OrgState(0, 0, bytes(HASH_BYTES))
"""An org of which nothing was posted."""


def row_line(row: Row) -> bytes:
    """Return a row as it is hashed, and as it stands in a proof: a JSON array of its kind and its columns, in order."""
    start = REQUEST_START if isinstance(row, RequestRow) else ENTRY_START
    return start + _encode(row)[1:]


def rate_line(rate: Rate) -> bytes:
    """Return a rate as it is hashed, and as it stands in a proof: a JSON array, all amounts in nano-rupees.

    Kind, model, provider, start in ms; the prices of a token: input, cached input, output, cache write, audio input,
    audio output; the fee for a request; the tiers, each of them a bound and its six prices, the largest bound first.
    """
    prices = (rate.input_nano, rate.cached_nano, rate.output_nano, *rate.others_nano)
    tiers = [_tier(tier) for tier in rate.tiers]
    return _encode(["rate", rate.model, rate.provider, rate.from_ms, *prices, rate.request_nano, tiers])


def _tier(tier: Tier) -> list[int]:
    prices = (tier.input_nano, tier.cached_nano, tier.output_nano, *tier.others_nano)
    return [tier.above_prompt_tokens, *prices]


def rate_key(row: RequestRow) -> RateKey:
    """Return which rate a request was charged by."""
    return row.model, row.provider, row.rate_from_ms


def hash_of_rates(rates: dict[RateKey, bytes]) -> HashOfRate:
    """Return what looks the hash of a rate up among lines of rates."""
    hashes = {key: sha256(line).digest() for key, line in rates.items()}

    def find(key: RateKey) -> bytes:
        found = hashes.get(key)
        if found is None:
            raise UnknownRateError(f"the rate of {key[0]} at {key[1]} from {key[2]} ms is not in the catalog")
        return found

    return find


def after_all(state: OrgState, rows: Iterable[Row], hash_of_rate: HashOfRate) -> OrgState:
    """Return what is known of an org after its next rows. Raises UnknownRateError."""
    for row in rows:
        state = after(state, row, hash_of_rate)
    return state


def after(state: OrgState, row: Row, hash_of_rate: HashOfRate) -> OrgState:
    """Return what is known of an org after its next row. Raises UnknownRateError."""
    if isinstance(row, LedgerRow):
        rate, change_nano = NO_RATE, row.amount_nano
    else:
        rate = NO_RATE if is_free(row) else hash_of_rate(rate_key(row))
        change_nano = -row.cost_nano
    digest = sha256(ROW_TAG + state.hash + rate + row_line(row)).digest()
    return OrgState(state.rows + 1, state.balance_nano + change_nano, digest)

"""The lines of a proof: an org's month, in a form that anyone can check. Pure.

Owns: the shapes of the lines, and how they are written. docs/statements.md specifies them.
Called by: `api/services/proving.py` writes proofs, a piece at a time; `notary/check.py` reads them.

The lines in their order: the head; the rates that rows were charged by; the rows; the path of the org in each signed
day; the checkpoints; the end. JSON without spaces, the fields in the order of the struct, binary values in lower-case hex.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from pipeline.journal import LedgerRow, Row
from pipeline.notary.chain import OrgState, RateKey, after, hash_of_rates, row_line
from pipeline.notary.checkpoint import Handover, SignedCheckpoint, line_of
from pipeline.notary.tree import OrgPath

FORMAT = 1

_encode = msgspec.json.Encoder().encode


class ProofHead(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="proof"):
    """What a proof is of, and what was so before the month: rows, balance in nano-rupees and running hash of the org.

    `public_key` signed the newest checkpoint there is, None where there is none; `handovers` are all there ever were.
    """

    format: int
    deployment: str
    org: str
    month: str
    public_key: str | None
    handovers: tuple[Handover, ...]
    opening_rows: int
    opening_nano: int
    opening_hash: str

    @property
    def opening(self) -> OrgState:
        """What was known of the org before the month. Raises ValueError for a hash that is none."""
        return OrgState(self.opening_rows, self.opening_nano, bytes.fromhex(self.opening_hash))


class PathLine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="path"):
    """The org at the end of a signed IST day, and the way from its leaf to the root that was signed.

    `beside` is the hash beside it at each level, lowest first, one after the other.
    """

    day: str
    rows: int
    balance_nano: int
    hash: str
    blind: str
    place: int
    beside: str


class ProofEnd(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="end"):
    """The sums of the month, the running hash after it, and the hash of all bytes of the file before this field.

    `signed_through` is the last day that a checkpoint in the file covers, None where none does.
    """

    rows: int
    credits_nano: int
    debits_nano: int
    closing_nano: int
    hash: str
    signed_through: str | None
    sha256: str


class SignedDay(Struct, frozen=True):
    """A signed day as a proof has it: its checkpoint, and the org at its end with its path; none where it had no rows yet."""

    checkpoint: SignedCheckpoint
    path: tuple[OrgState, OrgPath] | None


def path_line(day: str, state: OrgState, path: OrgPath) -> bytes:
    """Return the line of an org's path in a signed day."""
    line = PathLine(
        day,
        state.rows,
        state.balance_nano,
        state.hash.hex(),
        path.blind.hex(),
        path.place,
        b"".join(path.beside).hex(),
    )
    return _encode(line)


def encode(line: ProofHead | PathLine | ProofEnd) -> bytes:
    """Return a line of the file, without its line feed."""
    return _encode(line)


class MonthProof:
    """Writes the file of a proof, a piece at a time: `begin`, `rows` for as often as there are some, `finish`.

    It folds the rows that it is given and promises nothing: where these are not what was signed, neither is the file.
    """

    def __init__(self, head: ProofHead, rates: Mapping[RateKey, bytes]) -> None:
        """Take what the first line says, and the lines of all rates that rows of the month were charged by."""
        self._head, self._rates, self._state = head, dict(rates), head.opening
        self._hash_of_rate = hash_of_rates(self._rates)
        self._credits_nano = self._debits_nano = 0
        self._digest = sha256()

    def begin(self) -> bytes:
        """Return the first lines of the file."""
        return self._piece([_encode(self._head), *(self._rates[key] for key in sorted(self._rates))])

    def rows(self, rows: Iterable[Row]) -> bytes:
        """Return the lines of the next rows of the org. Raises UnknownRateError."""
        lines = []
        for row in rows:
            if isinstance(row, LedgerRow):
                self._credits_nano += row.amount_nano
            else:
                self._debits_nano += row.cost_nano
            self._state = after(self._state, row, self._hash_of_rate)
            lines.append(row_line(row))
        return self._piece(lines)

    def finish(self, days: Sequence[SignedDay]) -> bytes:
        """Return the last lines of the file; `days` are those that are signed, in order."""
        paths = [path_line(each.checkpoint.day, *each.path) for each in days if each.path is not None]
        lines = self._piece([*paths, *(line_of(each.checkpoint) for each in days)])
        end = ProofEnd(
            self._state.rows - self._head.opening_rows,
            self._credits_nano,
            self._debits_nano,
            self._state.balance_nano,
            self._state.hash.hex(),
            days[-1].checkpoint.day if days else None,
            "",
        )
        self._digest.update(end_text(end))
        return lines + _encode(msgspec.structs.replace(end, sha256=self._digest.hexdigest())) + b"\n"

    def _piece(self, lines: Iterable[bytes]) -> bytes:
        text = b"".join([line + b"\n" for line in lines])
        self._digest.update(text)
        return text


def end_text(end: ProofEnd) -> bytes:
    """Return what of the last line is hashed: all before its last field."""
    return _encode(end).rpartition(b',"sha256":')[0]

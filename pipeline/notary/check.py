"""Check a proof: with nothing but its bytes, and the public key if it is pinned. Pure.

Owns: what must hold, in which order it is looked at, and the words for what does not.
Called by: `cli/prove.py`. Next: `notary/proof_reader.py` reads the lines. `deploy/prove.py` does the same in a program of its own.

The rows are folded as the notary folds them: ids rise, times of posting lie in the month and never fall, each cost is computed
again by the rate in the file. At the end of each signed day what was folded has to lead to the root that was signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from pipeline import ist
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import cost_nano, is_free
from pipeline.journal import RequestRow, Row, position_of
from pipeline.notary.chain import (
    ENTRY_START,
    NOTHING,
    RATE_START,
    REQUEST_START,
    OrgState,
    RateKey,
    UnknownRateError,
    after,
    hash_of_rates,
    rate_key,
)
from pipeline.notary.checkpoint import (
    FIRST_PREVIOUS,
    SignedCheckpoint,
    is_handed_over,
    is_signed,
    line_hash,
    line_of,
)
from pipeline.notary.proof import FORMAT, PathLine, ProofEnd, ProofHead, encode, end_text
from pipeline.notary.proof_reader import (
    HASH_DIGITS,
    ProofError,
    ProofLines,
    day_number,
    hex_bytes,
    rate_of,
    row_of,
    values_of,
)
from pipeline.notary.tree import DEPTH, climbed, leaf
from pipeline.statements import month_of


class Proven(Struct, frozen=True):
    """What a proof shows. Amounts in nano-rupees; days are IST dates.

    `signed_through` is the last day that is covered by signatures: what was posted after it is covered by the hash
    alone, so by nothing that its maker could not change. None where nothing is signed.
    """

    org: str
    month: str
    rows: int
    opening_nano: int
    credits_nano: int
    debits_nano: int
    closing_nano: int
    signed_through: str | None
    public_key: str | None


@dataclass
class _Checked:
    """What was seen of a proof so far."""

    head: ProofHead
    start_ms: int
    end_ms: int
    state: OrgState
    rates: RateTable = field(default_factory=RateTable)
    rate_lines: dict[RateKey, bytes] = field(default_factory=dict)
    used: set[RateKey] = field(default_factory=set)
    last_id: int = 0
    last_ms: int = 0
    credits_nano: int = 0
    debits_nano: int = 0
    by_day: dict[int, OrgState] = field(default_factory=dict)
    """What was so at the end of each day that has rows."""
    roots: dict[str, bytes] = field(default_factory=dict)
    """The root that the org's path leads to, by day."""
    checkpoints: list[SignedCheckpoint] = field(default_factory=list)

    def at_end_of(self, day: int) -> OrgState:
        """Return what was known of the org at the end of a day."""
        days = [each for each in self.by_day if each <= day]
        return self.by_day[max(days)] if days else self.head.opening


def check(lines: Iterable[bytes], public_key: str | None = None) -> Proven:
    """Return what a proof shows, given as its lines with their line feeds. Raises ProofError at the first thing that does not hold.

    `public_key`, in hex, is a key that the deployment is known by: one that signed then, before or since.
    """
    reading = None
    try:
        reading = ProofLines(lines)
        return _check(reading, public_key)
    except ProofError as error:
        raise ProofError(f"line {1 if reading is None else reading.number}: {error}") from None


def _check(lines: ProofLines, public_key: str | None) -> Proven:
    checked = _head(lines, public_key)
    for line in lines.all_of(RATE_START):
        _take_rate(checked, line)
    hash_of_rate = hash_of_rates(checked.rate_lines)
    while lines.line.startswith((REQUEST_START, ENTRY_START)):
        _take_row(checked, row_of(lines.line), hash_of_rate)
        lines.next()
    if unused := checked.rate_lines.keys() - checked.used:
        raise ProofError(f"no row was charged by the rate of {min(unused)}")
    for line in lines.all_of(b'{"kind":"path",'):
        _take_path(checked, values_of(PathLine, line, encode))
    for line in lines.all_of(b'{"kind":"checkpoint",'):
        _take_checkpoint(checked, values_of(SignedCheckpoint, line, line_of))
    _all_signed(checked, public_key)
    end = values_of(ProofEnd, lines.line, encode)
    _check_end(checked, end, lines)
    lines.next()
    if lines.line:
        raise ProofError("there is more after the end")
    head = checked.head
    return Proven(
        head.org,
        head.month,
        end.rows,
        head.opening_nano,
        end.credits_nano,
        end.debits_nano,
        end.closing_nano,
        end.signed_through,
        head.public_key,
    )


def _head(lines: ProofLines, public_key: str | None) -> _Checked:
    """Return what the first line begins. Raises ProofError."""
    head = values_of(ProofHead, lines.line, encode)
    month = month_of(head.month)
    if head.format != FORMAT or month is None:
        raise ProofError(
            f"format {head.format} and month {head.month}; this checks months in format {FORMAT}"
        )
    hex_bytes(head.opening_hash, HASH_DIGITS)
    if (head.opening_rows == 0) != (head.opening == NOTHING) or head.opening_rows < 0:
        raise ProofError("what was so before the month contradicts itself")
    key, last_day = None, ""
    for handover in head.handovers:
        if key not in (None, handover.old_key) or handover.day <= last_day:
            raise ProofError("the hand-overs do not follow each other")
        if handover.deployment != head.deployment or not is_handed_over(handover):
            raise ProofError(f"the hand-over of {handover.day} is not signed by both keys")
        key, last_day = handover.new_key, handover.day
    if key not in (None, head.public_key):
        raise ProofError("the public key is not the one that was handed over to")
    if public_key is not None and public_key not in _known_keys(head):
        raise ProofError(f"it is signed by {head.public_key}, not by the key that was asked for")
    lines.next()
    return _Checked(head, ist.month_start_ms(month), ist.month_end_ms(month), head.opening)


def _known_keys(head: ProofHead) -> set[str | None]:
    return {head.public_key, *(handover.old_key for handover in head.handovers)}


def _take_rate(checked: _Checked, line: bytes) -> None:
    rate = rate_of(line)
    key = rate.model, rate.provider, rate.from_ms
    if checked.rate_lines and key <= max(checked.rate_lines):
        raise ProofError("the rates are not in order")
    checked.rates.add(rate)
    checked.rate_lines[key] = line


def _take_row(checked: _Checked, row: Row, hash_of_rate: Callable[[RateKey], bytes]) -> None:
    """Take the next row. Raises ProofError."""
    if row.org != checked.head.org:
        raise ProofError(f"row {row.id} is of another org")
    if row.id <= checked.last_id or (
        checked.last_id and position_of(row.id)[0] != position_of(checked.last_id)[0]
    ):
        raise ProofError(f"row {row.id} does not follow row {checked.last_id}")
    if row.posted_ms < checked.last_ms or not checked.start_ms <= row.posted_ms < checked.end_ms:
        raise ProofError(f"row {row.id} was not posted in the month, or not after the row before it")
    if isinstance(row, RequestRow):
        _check_cost(checked, row)
        checked.debits_nano += row.cost_nano
    else:
        checked.credits_nano += row.amount_nano
        due_nano = checked.state.balance_nano + row.amount_nano
        if row.balance_after_nano != due_nano:
            raise ProofError(
                f"row {row.id}: the balance after it is {due_nano}, not {row.balance_after_nano} nano-rupees"
            )
    try:
        checked.state = after(checked.state, row, hash_of_rate)
    except UnknownRateError as error:
        raise ProofError(f"row {row.id}: {error}") from None
    checked.last_id, checked.last_ms = row.id, row.posted_ms
    checked.by_day[ist.day_of(row.posted_ms)] = checked.state


def _check_cost(checked: _Checked, row: RequestRow) -> None:
    due_nano = 0
    if not is_free(row):
        rate = checked.rates.in_force(row.model, row.provider, row.at_ms)
        if rate is None or rate.from_ms != row.rate_from_ms:
            raise ProofError(f"row {row.id} names a rate that is not in the file, or was not in force")
        checked.used.add(rate_key(row))
        due_nano = cost_nano(rate, *row.counts)
    if row.cost_nano != due_nano or (is_free(row) and row.rate_from_ms):
        raise ProofError(f"row {row.id} costs {due_nano} nano-rupees, not {row.cost_nano}")


def _take_path(checked: _Checked, path: PathLine) -> None:
    """Take the path of a day, in the order of the days. Raises ProofError."""
    day = day_number(path.day)
    if checked.roots and path.day <= max(checked.roots):
        raise ProofError("the paths are not in the order of the days")
    state = OrgState(path.rows, path.balance_nano, hex_bytes(path.hash, HASH_DIGITS))
    if state != checked.at_end_of(day):
        raise ProofError(f"the rows do not lead to what the path of {path.day} is of")
    beside = hex_bytes(path.beside, DEPTH * HASH_DIGITS)
    if not 0 <= path.place < 2**DEPTH:
        raise ProofError(f"{path.place} is no place in a tree of {DEPTH} levels")
    at = leaf(checked.head.org, state, hex_bytes(path.blind, HASH_DIGITS))
    width = HASH_DIGITS // 2
    levels = [beside[start : start + width] for start in range(0, len(beside), width)]
    checked.roots[path.day] = climbed(at, path.place, levels)


def _take_checkpoint(checked: _Checked, checkpoint: SignedCheckpoint) -> None:
    """Take the checkpoint of a day. Raises ProofError."""
    day = day_number(checkpoint.day)
    _check_signature(checked.head, checkpoint)
    _check_order(checked, checkpoint, day)
    has_rows = checked.at_end_of(day).rows > 0
    if has_rows != (checkpoint.day in checked.roots):
        raise ProofError(f"the path of {checkpoint.day} is missing, or there is one without rows")
    if has_rows and checked.roots[checkpoint.day].hex() != checkpoint.root:
        raise ProofError(f"the path of {checkpoint.day} does not lead to the root that was signed")
    checked.checkpoints.append(checkpoint)


def _check_signature(head: ProofHead, checkpoint: SignedCheckpoint) -> None:
    """Raise ProofError where a checkpoint is not signed by the key of its day."""
    if checkpoint.deployment != head.deployment:
        raise ProofError(f"it is of the deployment {checkpoint.deployment}")
    if checkpoint.key != _key_of(head, checkpoint.day):
        raise ProofError(f"it names the key {checkpoint.key}, which did not sign on {checkpoint.day}")
    handed_over = {handover.day: handover for handover in head.handovers}
    if checkpoint.handover != handed_over.get(checkpoint.day):
        raise ProofError(f"its hand-over is not the one that the first line has of {checkpoint.day}")
    if not is_signed(checkpoint):
        raise ProofError(f"the checkpoint of {checkpoint.day} is not signed by {checkpoint.key}")


def _check_order(checked: _Checked, checkpoint: SignedCheckpoint, day: int) -> None:
    """Raise ProofError where a checkpoint is not that of the next day, or the first is not where they may begin."""
    before_month = ist.day_of(checked.start_ms) - 1
    if checked.checkpoints:
        last = checked.checkpoints[-1]
        if day != day_number(last.day) + 1 or checkpoint.previous != line_hash(last):
            raise ProofError(f"the checkpoint of {checkpoint.day} does not follow the one before it")
    elif day != before_month and (day < before_month or checkpoint.previous != FIRST_PREVIOUS):
        raise ProofError(
            "the first checkpoint is neither that of the day before the month nor the first there is"
        )
    if day >= ist.day_of(checked.end_ms):
        raise ProofError(f"{checkpoint.day} is not in the month")


def _key_of(head: ProofHead, day: str) -> str | None:
    """Return the key that signed on a day."""
    for handover in head.handovers:
        if day < handover.day:
            return handover.old_key
    return head.public_key


def _all_signed(checked: _Checked, public_key: str | None) -> None:
    """Raise ProofError where a path has no checkpoint, or what was so before the month has none."""
    if public_key is not None and not checked.checkpoints:
        raise ProofError("nothing in it is signed, so not by the key that was asked for either")
    signed_days = {checkpoint.day for checkpoint in checked.checkpoints}
    if unsigned := checked.roots.keys() - signed_days:
        raise ProofError(f"the checkpoint of {min(unsigned)} is missing")
    before_month = ist.date_of(ist.day_of(checked.start_ms) - 1).isoformat()
    if signed_days and checked.head.opening_rows and before_month not in signed_days:
        raise ProofError("what was so before the month is not signed, but days of the month are")


def _check_end(checked: _Checked, end: ProofEnd, lines: ProofLines) -> None:
    """Raise ProofError where the last line does not say what the others come to."""
    month_days = [each.day for each in checked.checkpoints]
    due = ProofEnd(
        checked.state.rows - checked.head.opening_rows,
        checked.credits_nano,
        checked.debits_nano,
        checked.state.balance_nano,
        checked.state.hash.hex(),
        month_days[-1] if month_days else None,
        end.sha256,
    )
    if end != due:
        wrong = [name for name in end.__struct_fields__ if getattr(end, name) != getattr(due, name)]
        raise ProofError(f"the sums of the end are not those of the lines: {', '.join(wrong)}")
    lines.digest.update(end_text(end))
    if end.sha256 != lines.digest.hexdigest():
        raise ProofError("the hash of the file is another one")

"""A proof holds for the true bytes alone: for both programs that check one, and whatever was changed in it."""

from __future__ import annotations

import importlib.util
import io
import json
import random
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.money import NANO_PER_RUPEE
from pipeline.notary.check import Proven, check
from pipeline.notary.proof_reader import ProofError
from tests.support.notary import KEYS, ORG, Books, books, both_keys, old_keys

ROOT = Path(__file__).parents[3]
CHANGES = 1_000


def _stand_alone() -> Any:
    spec = importlib.util.spec_from_file_location("prove", ROOT / "deploy" / "prove.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROVE = _stand_alone()


def lines_of(proof: bytes) -> list[bytes]:
    return proof.splitlines(keepends=True)


def by_product(proof: bytes, pinned: str | None = None) -> str | None:
    """Return why a proof does not hold, None where it does."""
    try:
        check(
            [line + b"\n" for line in proof.split(b"\n")[:-1]] if proof.endswith(b"\n") else [proof], pinned
        )
    except ProofError as error:
        return str(error)
    return None


def by_script(proof: bytes, pinned: str | None = None) -> str | None:
    """Return the same, by the stand-alone program."""
    with tempfile.NamedTemporaryFile() as file, redirect_stdout(io.StringIO()) as shown:
        Path(file.name).write_bytes(proof)
        code = PROVE.main(file.name, pinned)
    answer: dict[str, Any] = json.loads(shown.getvalue())
    assert answer["holds"] == (code == 0)
    return answer.get("why")


CHECKS: list[Callable[..., str | None]] = [by_product, by_script]
each_check = pytest.mark.parametrize("why_not", CHECKS, ids=["metering prove", "deploy/prove.py"])


@cache
def october() -> bytes:
    """A closed month, all of it signed, with rows before it and a change of keys within it."""
    return _october(books("2026-09-28", 36, 12), 10)


@cache
def late_october() -> bytes:
    """The last days of a closed month, with which the deployment began, so that a thousand checks of it are quick."""
    return _october(books("2026-10-28", 4, 16), 2)


def _october(made: Books, after: int) -> bytes:
    rotated = made.days[after]
    keys = {day: old_keys() if day < rotated else both_keys() for day in made.days}
    return made.sign(keys).proof(ORG, "2026-10")


def mended(proof: bytes) -> bytes:
    """Return a changed proof with the hash of the file made right again, as somebody would who wants it to pass."""
    body, mark, _ = proof.rpartition(b',"sha256":"')
    return body + mark + sha256(body).hexdigest().encode() + b'"}\n' if mark else proof


def test_a_proof_is_these_bytes() -> None:
    """Who changes this changes the format: it needs a new number, and both programs have to know the old one too."""
    assert (
        sha256(late_october()).hexdigest()
        == "83d98a12cfa9472249eec9c66b17eb174e1754c02ae54afcd75c9607a5cd9547"
    )


@each_check
def test_a_true_proof_holds(why_not: Callable[..., str | None]) -> None:
    assert why_not(october()) is None
    assert why_not(october(), KEYS.newest.public) is None
    assert why_not(october(), old_keys().newest.public) is None
    assert "not by the key that was asked for" in (why_not(october(), "ab" * 32) or "")


def test_what_a_proof_shows_are_the_sums_of_its_rows() -> None:
    made = books("2026-09-28", 36, 12).sign()
    shown = check(lines_of(made.proof(ORG, "2026-10")))
    rows = [json.loads(line) for line in lines_of(made.proof(ORG, "2026-10")) if line.startswith(b"[")]
    entries = [row for row in rows if row[0] == "entry"]
    costs = [row[20 + 1] for row in rows if row[0] == "request"]
    assert isinstance(shown, Proven)
    assert shown.rows == len(entries) + len(costs) > 100
    assert shown.credits_nano == sum(row[5] for row in entries)
    assert shown.debits_nano == sum(costs) > NANO_PER_RUPEE
    assert shown.closing_nano == shown.opening_nano + shown.credits_nano - shown.debits_nano
    assert (shown.signed_through, shown.public_key) == ("2026-10-31", KEYS.newest.public)


@pytest.mark.parametrize(
    ("mend", "changes"),
    [(False, CHANGES // 5), (True, CHANGES)],
    ids=["as it is", "with the file's hash made right"],
)
def test_a_thousand_single_bytes_changed_are_all_found(mend: bool, changes: int) -> None:
    rng, proof, found = random.Random(20261127), late_october(), 0
    for _ in range(changes):
        at, flip = rng.randrange(len(proof)), rng.randrange(1, 256)
        changed = proof[:at] + bytes([proof[at] ^ flip]) + proof[at + 1 :]
        changed = mended(changed) if mend else changed
        whys = [why_not(changed) for why_not in CHECKS]
        # Where what was changed is the hash of the file itself, it is right again.
        assert whys == [None, None] if changed == proof else None not in whys, (at, flip, whys)
        found += None not in whys
    assert found > changes * 0.95


def _swapped(lines: list[bytes]) -> None:
    rows = [number for number, line in enumerate(lines) if line.startswith(b'["request"')]
    lines[rows[0]], lines[rows[1]] = lines[rows[1]], lines[rows[0]]


def _without(start: bytes, which: int = 0) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        del lines[[number for number, line in enumerate(lines) if line.startswith(start)][which]]

    return change


def _twice(lines: list[bytes]) -> None:
    rows = [number for number, line in enumerate(lines) if line.startswith(b'["request"')]
    lines.insert(rows[3], lines[rows[3]])


def _cheaper(lines: list[bytes]) -> None:
    """Make one rate cheaper where no row would notice: the price of a token that nobody used."""
    rate = next(number for number, line in enumerate(lines) if line.startswith(b'["rate"'))
    value = json.loads(lines[rate])
    value[8] += 1  # audio input: no row has any
    lines[rate] = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _cut_off(lines: list[bytes]) -> None:
    del lines[len(lines) // 2 :]


def _unsigned_tail(lines: list[bytes]) -> None:
    """Leave out the last checkpoint, and its path stays."""
    _without(b'{"kind":"checkpoint"', -1)(lines)


def _spaced(lines: list[bytes]) -> None:
    lines[0] = lines[0].replace(b'":', b'": ', 1)


def _longer(lines: list[bytes]) -> None:
    lines.append(lines[-1])


CHANGED: dict[str, Callable[[list[bytes]], None]] = {
    "two rows in another order": _swapped,
    "a row left out": _without(b'["request"', 5),
    "an entry left out": _without(b'["entry"', 2),
    "the last row left out": _without(b'["', -1),
    "a row twice": _twice,
    "a rate that no row notices": _cheaper,
    "a rate left out": _without(b'["rate"'),
    "a path left out": _without(b'{"kind":"path"', 3),
    "the path before the month left out": _without(b'{"kind":"path"'),
    "a checkpoint left out": _without(b'{"kind":"checkpoint"', 3),
    "the checkpoint before the month left out": _without(b'{"kind":"checkpoint"'),
    "the last checkpoint left out": _unsigned_tail,
    "the first line left out": _without(b'{"kind":"proof"'),
    "the end left out": _without(b'{"kind":"end"'),
    "half of it": _cut_off,
    "a space in the first line": _spaced,
    "the end twice": _longer,
}


@each_check
@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_what_is_not_as_it_was_does_not_hold(
    why_not: Callable[..., str | None], change: Callable[[list[bytes]], None]
) -> None:
    lines = lines_of(october())
    change(lines)
    why = why_not(mended(b"".join(lines)))
    assert why is not None
    assert why.startswith("line ")


def _member(kind: str, name: str) -> Callable[[bytes], tuple[int, int]]:
    """Find the first line of a kind, and the first byte of a member of it."""

    def find(proof: bytes) -> tuple[int, int]:
        start = proof.index(b'{"kind":"%s"' % kind.encode())
        mark = b'"%s":' % name.encode()
        at = proof.index(mark, start) + len(mark)
        return start, at + (proof[at : at + 1] == b'"')

    return find


def _value(kind: str, place: int) -> Callable[[bytes], tuple[int, int]]:
    """Find the second line of a kind that is an array, and the first byte of the value at a place of it."""

    def find(proof: bytes) -> tuple[int, int]:
        mark = b'["%s",' % kind.encode()
        start = proof.index(mark, proof.index(mark) + 1)
        before = msgspec.json.decode(proof[start : proof.index(b"\n", start)])[:place]
        at = start + len(msgspec.json.encode(before))
        return start, at + (proof[at : at + 1] == b'"')

    return find


BYTES: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "a row: its id": _value("request", 1),
    "a row: when it was posted": _value("request", 4),
    "a row: what it is called": _value("request", 6),
    "a row: whose key": _value("request", 7),
    "a row: its status": _value("request", 12),
    "a row: how long it took": _value("request", 14),
    "a row: its tokens": _value("request", 17),
    "a row: its cost": _value("request", 21),
    "a row: its rate": _value("request", 22),
    "an entry: its amount": _value("entry", 5),
    "an entry: the balance after it": _value("entry", 6),
    "an entry: its payment": _value("entry", 7),
    "a rate: its start": _value("rate", 3),
    "a rate: a price": _value("rate", 4),
    "a rate: a price that no row pays": _value("rate", 8),
    "a rate: the fee": _value("rate", 10),
    "a path: its rows": _member("path", "rows"),
    "a path: its balance": _member("path", "balance_nano"),
    "a path: its hash": _member("path", "hash"),
    "a path: its blind": _member("path", "blind"),
    "a path: its place": _member("path", "place"),
    "a path: what stands beside": _member("path", "beside"),
    "a signature: of a checkpoint": _member("checkpoint", "signature"),
    "a signature: of a hand-over, by the old key": _member("proof", "old_signature"),
    "a signature: of a hand-over, by the new key": _member("proof", "new_signature"),
    "a checkpoint: its day": _member("checkpoint", "day"),
    "a checkpoint: its root": _member("checkpoint", "root"),
    "a checkpoint: the one before": _member("checkpoint", "previous"),
    "a checkpoint: its key": _member("checkpoint", "key"),
    "the head: whose": _member("proof", "org"),
    "the head: its month": _member("proof", "month"),
    "the head: the opening balance": _member("proof", "opening_nano"),
    "the head: the opening hash": _member("proof", "opening_hash"),
    "the head: the public key": _member("proof", "public_key"),
    "the end: its rows": _member("end", "rows"),
    "the end: its debits": _member("end", "debits_nano"),
    "the end: the closing balance": _member("end", "closing_nano"),
    "the end: the hash": _member("end", "hash"),
    "the end: through which day": _member("end", "signed_through"),
}
"""Where a byte is changed, by what it is part of. An order of rows: `CHANGED`."""


@each_check
@pytest.mark.parametrize("find", BYTES.values(), ids=BYTES)
def test_one_byte_of_each_class_changed_to_another_that_could_stand_there_is_found(
    why_not: Callable[..., str | None], find: Callable[[bytes], tuple[int, int]]
) -> None:
    proof = late_october()
    line, at = find(proof)
    assert line < at < proof.index(b"\n", line)
    changed = mended(proof[:at] + (b"2" if proof[at : at + 1] == b"1" else b"1") + proof[at + 1 :])
    assert len(changed) == len(proof)
    assert (why_not(changed) or "").startswith("line ")


@each_check
def test_the_hash_of_the_file_is_found_too(why_not: Callable[..., str | None]) -> None:
    proof = late_october()
    _, at = _member("end", "sha256")(proof)
    changed = proof[:at] + (b"2" if proof[at : at + 1] == b"1" else b"1") + proof[at + 1 :]
    assert (why_not(changed) or "").startswith("line ")


@each_check
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"kind":"proof"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"kind":"end"}\n',
    ],
)
def test_what_is_no_proof_gets_a_clear_answer(why_not: Callable[..., str | None], text: bytes) -> None:
    assert (why_not(text) or "").startswith("line 1: ")


@each_check
def test_a_month_of_which_nothing_is_signed_says_so(why_not: Callable[..., str | None]) -> None:
    unsigned = books("2026-10-05", 3, 9).proof(ORG, "2026-10")
    assert why_not(unsigned) is None
    assert check(lines_of(unsigned)).signed_through is None
    assert "not by the key that was asked for" in (why_not(unsigned, KEYS.newest.public) or "")


@each_check
def test_an_open_month_says_through_which_day_it_is_signed(why_not: Callable[..., str | None]) -> None:
    whole = books("2026-10-05", 6, 9)
    whole.days = whole.days[:4]
    proof = _sign_some(whole).proof(ORG, "2026-10")
    assert why_not(proof) is None
    assert check(lines_of(proof)).signed_through == "2026-10-08"


def _sign_some(made: Any) -> Any:
    """Close the days of the books that are to be closed, of rows that go on after them."""
    rows, last_ms = made.rows, (made.days[-1] + 1) * 86_400_000 - 19_800_000
    made.rows = [row for row in rows if row.posted_ms < last_ms]
    made.sign()
    made.rows = rows
    return made


@each_check
def test_an_org_whose_first_row_is_in_the_month_has_no_path_before_it(
    why_not: Callable[..., str | None],
) -> None:
    made = books("2026-09-25", 20, 6)
    late = [row for row in made.rows if row.org != ORG or row.posted_ms > 1_791_000_000_000]
    assert 0 < sum(row.org == ORG for row in late) < 60
    renumbered = []
    balance = 0
    for number, row in enumerate(late, 1):
        changes: dict[str, Any] = {"id": number * 1024}
        if row.org == ORG:
            balance += getattr(row, "amount_nano", 0) - getattr(row, "cost_nano", 0)
            if hasattr(row, "balance_after_nano"):
                changes["balance_after_nano"] = balance
        renumbered.append(msgspec.structs.replace(row, **changes))
    made.rows = renumbered
    proof = made.sign().proof(ORG, "2026-10")
    assert why_not(proof) is None
    assert proof.count(b'{"kind":"path"') < proof.count(b'{"kind":"checkpoint"')

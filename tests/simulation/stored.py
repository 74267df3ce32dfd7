"""Compare the tables with the journal: each row once, and the sums of the roll-ups.

Called by: `compare.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pipeline.journal import REQUESTS
from tests.simulation.books import Books
from tests.simulation.clickhouse import number
from tests.simulation.clock import month_and_day

Difference = tuple[str, str]
"""The name of the check, and what is wrong."""


def stored(books: Books) -> Iterator[Difference]:
    """Yield the rows that are not in their table exactly once, as they are in the journal."""
    for kind, rows in books.rows.items():
        left = dict(books.world.store.rows[kind])
        for row in rows:
            there = left.pop(number(row[0]), [])
            if len(there) != 1 or list(there[0]) != row:
                yield "stored rows", f"{kind} {row[0]} is stored {len(there)} times"
        if left:
            yield "stored rows", f"{kind} {sorted(left)[:5]} are in no journal"


def rolled_up(books: Books) -> Iterator[Difference]:
    """Yield the roll-ups that are not the sums over the journal."""
    usage: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 6)
    models: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 2)
    for p, kind, row in books.journal:
        if kind != REQUESTS:
            continue
        _, day = month_and_day(number(row[2]))
        sums = usage[row[1], day, row[9], row[6], row[10], row[8], row[7]]
        failed = int(number(row[11]) >= 400)
        for i, value in enumerate((1, failed, row[16], row[17], row[18], row[20])):
            sums[i] += number(value)
        sums = models[day, row[9], p]
        sums[0] += 1
        sums[1] += number(row[16]) + number(row[18])
    for name, want, got in (
        ("usage_day", usage, books.world.store.usage_day),
        ("model_day", models, books.world.store.model_day),
    ):
        if want != got:
            wrong = [key for key in want.keys() | got.keys() if want.get(key) != got.get(key)]
            yield "roll-ups", f"{name}: {len(wrong)} groups are wrong, such as {min(map(str, wrong))}"

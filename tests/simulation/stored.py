"""Compare the tables with the journal: each row once, and the sums of the roll-ups.

Called by: `compare.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pipeline.journal import LEDGER, REQUESTS, RequestRow, Row
from tests.simulation.books import Books
from tests.simulation.clock import month_and_day

Difference = tuple[str, str]
"""The name of the check, and what is wrong."""


def stored(books: Books) -> Iterator[Difference]:
    """Yield the rows that are not in their table exactly once, as they are in the journal."""
    rows_of: dict[str, Sequence[Row]] = {REQUESTS: books.requests, LEDGER: books.entries}
    for kind, rows in rows_of.items():
        left = dict(books.world.store.rows[kind])
        for row in rows:
            if left.pop(row.id, []) != [row]:
                yield "stored rows", f"{kind} {row.id} is not stored once as it is"
        if left:
            yield "stored rows", f"{kind} {sorted(left)[:5]} are in no journal"


def rolled_up(books: Books) -> Iterator[Difference]:
    """Yield the roll-ups that are not the sums over the journal."""
    usage: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 7)
    models: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 2)
    others = set[object]()
    """Orgs of partitions that no sink has taken over since the upgrade."""
    posted: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 2)
    for p, row in books.journal:
        if not isinstance(row, RequestRow):
            continue
        _, day = month_and_day(row.at_ms)
        sums = usage[row.org, day, row.model, row.key_id, row.provider, row.byok, row.tier]
        failed = int(row.status >= 400)
        counts = (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.beside_tokens)
        added = (1, failed, *counts, row.cost_nano)
        for i, value in enumerate(added):
            sums[i] += value
        sums = models[day, row.model, p]
        sums[0] += 1
        sums[1] += row.tokens
        if p not in books.world.store.filled:
            others.add(row.org)
            continue
        _, posted_day = month_and_day(row.posted_ms)
        sums = posted[row.org, posted_day, day]
        sums[0] += 1
        sums[1] += row.cost_nano
    rolled = books.world.store.posted_day
    as_posted = {group: sums for group, sums in rolled.items() if group[0] not in others}
    for name, want, got in (
        ("usage_day", usage, books.world.store.usage_day),
        ("model_day", models, books.world.store.model_day),
        ("posted_day", posted, as_posted),
    ):
        if want != got:
            wrong = [key for key in want.keys() | got.keys() if want.get(key) != got.get(key)]
            yield "roll-ups", f"{name}: {len(wrong)} groups are wrong, such as {min(map(str, wrong))}"

"""What is in the books at the end of a run: the journal's rows, the states, and sums over them.

Called by: `compare.py`.
"""

from __future__ import annotations

from collections import Counter

from pipeline.journal import LedgerRow, RequestRow, Row, decode_rows, read_headers
from pipeline.posting.state import PartitionState
from pipeline.topics import JOURNAL, STATE
from tests.simulation.clock import month_and_day
from tests.simulation.world import World

Usage = dict[tuple[str, str], tuple[dict[int, int], dict[int, int]]]
"""By org and key: nano-rupees by month, and requests by day."""


class Books:
    """What is in the books at the end, read once."""

    def __init__(self, world: World) -> None:
        """Read the journal and the state of every partition."""
        self.world, self.plan, self.truth = world, world.plan, world.truth
        self.partitions = range(world.plan.partitions)
        self.journal: list[tuple[int, Row]] = []
        """All rows in the order of each partition's journal, with the partition."""
        self.declared: list[tuple[int, int, int]] = []
        for p in self.partitions:
            for entry in world.broker.log(JOURNAL, p).all_committed():
                record = read_headers(entry.headers, entry.value or b"")
                rows = decode_rows(record)
                self.declared.append((p, record.first, record.last - record.first + 1 - len(rows)))
                self.journal += [(p, row) for row in rows]
        self.requests = [row for _, row in self.journal if isinstance(row, RequestRow)]
        self.entries = [row for _, row in self.journal if isinstance(row, LedgerRow)]
        self.charged = Counter((row.source, row.event_id) for row in self.requests)
        self.orgs = self.truth.orgs()
        self.prices = {identity: self.truth.prices(fate) for identity, fate in self.truth.fates.items()}
        self.spent, self.usage = usage_of(self)
        self.states: list[PartitionState] = []
        for p in self.partitions:
            newest: dict[bytes, bytes] = {}
            for entry in world.broker.log(STATE, p).all_committed():
                assert entry.key is not None
                if entry.value is None:
                    newest.pop(entry.key, None)
                else:
                    newest[entry.key] = entry.value
            self.states.append(PartitionState.restored(p, world.plan.partitions, newest))


def usage_of(books: Books) -> tuple[dict[str, int], Usage]:
    """Return what orgs spent, and keys by IST month and day, over the distinct charged events."""
    spent: dict[str, int] = {}
    usage: Usage = {}
    cost_nano = {(row.source, row.event_id): row.cost_nano for row in books.requests}
    for identity in books.charged:
        fate = books.truth.fates.get(identity)
        if fate is None:
            continue
        sent, cost = fate.sent, cost_nano[identity]
        prices = books.prices[identity]
        if len(prices) == 1 and (only := next(iter(prices))) is not None:
            cost = only[0]
        month, day = month_and_day(sent.at_ms)
        months, days = usage.setdefault((sent.org, sent.key), ({}, {}))
        spent[sent.org] = spent.get(sent.org, 0) + cost
        days[day] = days.get(day, 0) + 1
        if cost:
            months[month] = months.get(month, 0) + cost
    return spent, usage

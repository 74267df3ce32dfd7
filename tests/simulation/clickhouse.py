"""A model of ClickHouse, as far as the sink relies on it.

Owns: tables in monthly partitions, roll-ups fed by views, and deduplication by token: a table remembers
the last few blocks by token and month, and drops a block it knows, whatever is in it. The views look
into their own tables' windows, so that a repeated insert heals a view the first one did not reach.
Called by: `sink.py`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from pipeline.journal import LEDGER, REQUESTS, RequestRow, Row, decode_payload
from tests.simulation.faults import Plan

Group = tuple[object, ...]
IST = timedelta(hours=5, minutes=30)
HALF_HOUR_MS = 1_800_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RefusedError(Exception):
    """The insert was refused, or the server is down; nothing was written."""


class LostError(Exception):
    """No answer came. All, some or nothing of the insert was written, or will be."""


@dataclass(frozen=True)
class Insert:
    """An insert on its way."""

    kind: str
    payload: bytes
    token: str


class Window:
    """The blocks a table remembers, the oldest forgotten first."""

    def __init__(self, size: int) -> None:
        """Remember `size` blocks."""
        self._size = size
        self._known: dict[tuple[str, int], None] = {}

    def __contains__(self, block: tuple[str, int]) -> bool:
        return block in self._known

    def add(self, block: tuple[str, int]) -> None:
        """Remember a block."""
        self._known[block] = None
        if len(self._known) > self._size:
            del self._known[next(iter(self._known))]


class Store:
    """The tables, and what may happen to an insert on its way into them."""

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        """Start empty."""
        self._rng, self.plan = rng, plan
        self.faults = True
        self.counts: Counter[str] = Counter()
        self.rows: dict[str, dict[int, list[Row]]] = {REQUESTS: {}, LEDGER: {}}
        self.usage_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 6)
        self.model_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 2)
        self.late: list[Insert] = []
        self.half: set[str] = set()
        self._windows = {name: Window(plan.window) for name in (REQUESTS, LEDGER, "usage_day", "model_day")}

    def insert(self, insert: Insert) -> None:
        """Insert, or suffer one of the faults. Raises RefusedError or LostError."""
        plan, chance = self.plan, self._rng.random()
        if not self.faults:
            self.apply(insert)
            return
        for name, share in (
            ("refused", plan.insert_refused),
            ("lost", plan.insert_lost),
            ("half", plan.insert_half),
            ("late", plan.insert_late),
        ):
            if chance < share:
                self._suffer(name, insert)
            chance -= share
        self.apply(insert)

    def _suffer(self, fault: str, insert: Insert) -> None:
        if fault == "lost" and self._rng.random() < 0.5:
            fault = "vanished"
        self.counts[f"inserts {fault}"] += 1
        if fault == "refused":
            raise RefusedError
        if fault == "lost":
            self.apply(insert)
        elif fault == "half":
            self.apply(insert, steps_max=self._rng.randrange(1, 6))
        elif fault == "late":
            self.late.append(insert)
        raise LostError

    def land_late(self) -> None:
        """Let one late insert arrive."""
        if self.late:
            self.apply(self.late.pop(self._rng.randrange(len(self.late))))

    def apply(self, insert: Insert, steps_max: int = 1000) -> None:
        """Write an insert's blocks, or only the first few before the server goes down."""
        by_month: dict[int, list[Row]] = {}
        for row in decode_payload(insert.kind, insert.payload):
            by_month.setdefault(_month(row), []).append(row)
        steps: list[tuple[str, int, Callable[[list[Row]], None]]] = [
            (insert.kind, month, self._into_table(insert.kind)) for month in by_month
        ]
        if insert.kind == REQUESTS:
            steps += [("usage_day", month, self._into_usage_day) for month in by_month]
            steps += [("model_day", month, self._into_model_day) for month in by_month]
        fed: set[int] = set()
        for table, month, write in steps[:steps_max]:
            is_view = table not in self.rows
            known = (insert.token, month) in self._windows[table]
            if is_view and not self.plan.rules.views_deduplicated:
                # Without the setting a view is fed exactly when its source takes the block.
                known = month not in fed
            if known:
                self.counts["blocks deduplicated"] += 1
                continue
            if not is_view:
                fed.add(month)
            self._windows[table].add((insert.token, month))
            write(by_month[month])
        if steps_max < len(steps):
            self.half.add(insert.token)
        else:
            self.half.discard(insert.token)

    def count(self, kind: str, low: int, high: int, partition: int) -> int:
        """Return how many rows of a partition have an id within bounds."""
        return sum(
            len(rows) for i, rows in self.rows[kind].items() if low <= i <= high and i % 1024 == partition
        )

    def _into_table(self, kind: str) -> Callable[[list[Row]], None]:
        table = self.rows[kind]

        def write(rows: list[Row]) -> None:
            for row in rows:
                table.setdefault(row.id, []).append(row)

        return write

    def _into_usage_day(self, rows: list[Row]) -> None:
        for row in rows:
            assert isinstance(row, RequestRow)
            for i, value in enumerate(usage_sums(row)):
                self.usage_day[usage_group(row, day_of(row.at_ms))][i] += value

    def _into_model_day(self, rows: list[Row]) -> None:
        for row in rows:
            assert isinstance(row, RequestRow)
            sums = self.model_day[day_of(row.at_ms), row.model, row.id % 1024]
            sums[0] += 1
            sums[1] += row.tokens


def usage_group(row: RequestRow, day: int) -> Group:
    """Return the group of `usage_day` that a request belongs to."""
    return row.org, day, row.model, row.key_id, row.provider, row.byok, row.tier


def usage_sums(row: RequestRow) -> tuple[int, ...]:
    """Return what a request adds to its group of `usage_day`, in the order of its columns."""
    failed = int(row.status >= 400)
    return 1, failed, row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.cost_nano


def day_of(at_ms: int) -> int:
    """Return the day as `toDate(..., 'Asia/Kolkata')` counts it."""
    return _day_and_month(at_ms // HALF_HOUR_MS)[0]


def _month(row: Row) -> int:
    """Return which partition of its table a row belongs to; the ledger has one."""
    return _day_and_month(row.at_ms // HALF_HOUR_MS)[1] if isinstance(row, RequestRow) else 0


@lru_cache(maxsize=4096)
def _day_and_month(half_hour: int) -> tuple[int, int]:
    """Return both for a half hour: India's days begin at half past an hour of UTC."""
    at = _EPOCH + timedelta(milliseconds=half_hour * HALF_HOUR_MS) + IST
    return (at - _EPOCH).days, at.year * 100 + at.month

"""A model of ClickHouse, as far as the sink relies on it.

Owns: tables in monthly partitions, roll-ups fed by views, and deduplication by token: a table remembers
the last few blocks by token and month, and drops a block it knows, whatever is in it. The views look
into their own tables' windows, so that a repeated insert heals a view the first one did not reach. A server
that is killed between a block's token and the block has lost the block: it drops it ever after as known. An embedded
engine ends with its process, and all that is under way ends with it; a power cut takes its newest tokens, not its rows.
Called by: `sink.py`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import TypeVar

from pipeline.clickhouse.lost import START_MARGIN_S
from pipeline.identity import DeploymentIdentity
from pipeline.inserts import JournalInsert
from pipeline.journal import LEDGER, REQUESTS, RequestRow, Row, decode_payload
from tests.simulation.faults import Plan

T = TypeVar("T")
Group = tuple[object, ...]
"""What a roll-up groups by."""
IST = timedelta(hours=5, minutes=30)
HALF_HOUR_MS = 1_800_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RefusedError(Exception):
    """The insert was refused, or the server is down; nothing was written."""


class LostError(Exception):
    """No answer came. All, some or nothing of the insert was written, or will be."""


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

    def forget_newest(self, count: int) -> None:
        """Forget the blocks that were noted last."""
        for _ in range(count):
            self._known.popitem()

    @property
    def tokens(self) -> list[str]:
        """The tokens of the blocks, the oldest first."""
        return [token for token, _ in self._known]


class Store:
    """The tables, and what may happen to an insert on its way into them."""

    def __init__(self, rng: random.Random, plan: Plan, now_ms: Callable[[], int]) -> None:
        """Start empty. `now_ms` is the clock that tells how long the server has been up."""
        self._rng, self.plan, self._now_ms = rng, plan, now_ms
        self._started_ms = 0
        self.faults = True
        self.counts: Counter[str] = Counter()
        self.rows: dict[str, dict[int, list[Row]]] = {REQUESTS: {}, LEDGER: {}}
        self.usage_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 7)
        self.model_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 2)
        self.posted_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 2)
        self.owners: set[tuple[DeploymentIdentity, int]] = set()
        """Whose the database is, as `clickhouse/whose.py` writes it."""
        self.late: list[JournalInsert] = []
        self.half: set[str] = set()
        """Tokens of inserts of which some blocks are missing that another try would add."""
        self.torn: set[str] = set()
        """Tokens of inserts of which a block is lost that no other try adds, until it is put back."""
        self._staging: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self._staged = 0
        self._sent: set[int] = set()
        """The partitions of which anything was sent to an embedded engine since it was started."""
        self._feeds: dict[str, Callable[[Sequence[Row]], None]] = {
            "usage_day": partial(add_to_usage_day, self.usage_day),
            "model_day": partial(add_to_model_day, self.model_day),
        }
        names = (REQUESTS, LEDGER, *self._feeds, "posted_day")
        self._windows = {name: Window(plan.window) for name in names}
        self.filled: set[int] = set()
        """The partitions of the journal of which the roll-up by day of posting has all rows."""
        self._taken_over = 0
        self._upgrade()

    def insert(self, insert: JournalInsert) -> None:
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
            ("torn", plan.insert_torn),
        ):
            if chance < share:
                self._suffer(name, insert)
            chance -= share
        self.apply(insert)

    def _suffer(self, fault: str, insert: JournalInsert) -> None:
        if fault == "lost" and self._rng.random() < 0.5:
            fault = "vanished"
        self.counts[f"inserts {fault}"] += 1
        if fault == "refused":
            raise RefusedError
        if fault == "lost":
            self.apply(insert)
        elif fault == "half":
            self.apply(insert, steps_max=self._rng.randrange(1, 8))
        elif fault == "torn":
            self.apply(insert, steps_max=self._rng.randrange(1, 8), torn=True)
            self._started_ms = self._now_ms()
        elif fault == "late":
            self.late.append(insert)
        raise LostError

    def land_late(self) -> None:
        """Let one late insert arrive."""
        if self.late:
            self.apply(self.late.pop(self._rng.randrange(len(self.late))))

    def land_all(self) -> None:
        """Let all late inserts arrive, as they have after the time that a sink waits for that."""
        while self.late:
            self.apply(self.late.pop())

    def apply(self, insert: JournalInsert, steps_max: int = 1000, *, torn: bool = False) -> None:
        """Write an insert's blocks, or only the first few before the server goes down.

        `torn` says that it is killed between the last one's token and the block itself.
        """
        by_month: dict[int, list[Row]] = {}
        for row in decode_payload(insert.kind, insert.payload, insert.format):
            by_month.setdefault(_month(row), []).append(row)
        steps: list[tuple[str, int, Callable[[Sequence[Row]], None]]] = [
            (insert.kind, month, self._into_table(insert.kind)) for month in by_month
        ]
        if insert.kind == REQUESTS:
            steps += [(name, month, feed) for name, feed in self._feeds.items() for month in by_month]
        fed: set[int] = set()
        last = min(steps_max, len(steps))
        for number, (table, month, write) in enumerate(steps[:last], start=1):
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
            if torn and number == last:
                self.torn.add(insert.token)
                self.counts["blocks lost"] += 1
            else:
                write(by_month[month])
        if steps_max < len(steps):
            self.half.add(insert.token)
        else:
            self.half.discard(insert.token)

    # --- a roll-up that an upgrade makes, and what it lacks: pipeline/clickhouse/fill.py ---

    def note_take_over(self) -> bool:
        """Note that a sink begins to take a partition over, and return whether it is of the release that has the roll-up.

        Such a sink starts on an upgraded database only. The upgrade may come while a sink of the release before is at work.
        """
        self._taken_over += 1
        self._upgrade()
        return "posted_day" in self._feeds

    def fill(self, partition: int, high: int) -> int:
        """Add what the roll-up by day of posting lacks of a partition that was taken over, up to an id; return how many sums."""
        if partition in self.filled:
            return 0
        due: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 2)
        table = self.rows[REQUESTS]
        mine = (row for at in table if at % 1024 == partition and at <= high for row in table[at])
        add_to_posted_day(due, mine)
        lacking = {key: sums for key, sums in due.items() if sums[0] > self.posted_day[key][0]}
        self.posted_day.update(lacking)
        self.filled.add(partition)
        self.counts["sums of a new roll-up filled in"] += len(lacking)
        return len(lacking)

    def _upgrade(self) -> None:
        """Make the roll-up once it is time, as a migration does. In a database without rows nothing is lacking."""
        if self._taken_over < self.plan.upgraded_after or "posted_day" in self._feeds:
            return
        self._feeds["posted_day"] = partial(add_to_posted_day, self.posted_day)
        if not self.rows[REQUESTS]:
            self.filled |= set(range(1024))

    # --- an engine in the sink's process ---

    def note_sent(self, partition: int) -> None:
        """Note that an insert of a partition is about to be sent."""
        self._sent.add(partition)

    def nothing_is_under_way(self, partition: int) -> bool:
        """Whether nothing of a partition was sent since the engine was started, which nobody knows of a server."""
        settled = self.plan.embedded and partition not in self._sent
        self.counts["ranges looked for first in an engine just started"] += settled
        return settled

    def end_with_process(self) -> None:
        """End with the sink's process: what is under way ends somewhere. Then start anew, maybe after a power cut."""
        for insert in self.late:
            self.apply(insert, self._rng.randrange(9), torn=self._rng.random() < 0.3)
        self.late.clear()
        self._sent.clear()
        self._started_ms = self._now_ms()
        if self._rng.random() < self.plan.power_cut:
            self.counts["power cuts"] += 1
            for window in self._windows.values():
                window.forget_newest(self._rng.randrange(len(window.tokens) + 1))
            self.torn &= {token for window in self._windows.values() for token in window.tokens}

    def count(self, kind: str, low: int, high: int, partition: int) -> int:
        """Return how many rows of a partition have an id within bounds."""
        return sum(
            len(rows) for i, rows in self.rows[kind].items() if low <= i <= high and i % 1024 == partition
        )

    # --- what puts lost rows back: pipeline/clickhouse/lost.py ---

    def carry_out(self, statement: Callable[[], T]) -> T:
        """Carry out another statement than an insert, or suffer a fault. Raises RefusedError or LostError."""
        chance = self._rng.random() if self.faults else 1.0
        if chance < self.plan.insert_refused / 2:
            self.counts["statements refused"] += 1
            raise RefusedError
        answer = statement()
        if chance < (self.plan.insert_refused + self.plan.insert_lost) / 2:
            self.counts["statements done, answer lost"] += 1
            raise LostError
        return answer

    def was_started_within(self, seconds: float) -> bool:
        """Return whether the server may have been started within the last `seconds`."""
        return self._now_ms() - self._started_ms <= (seconds + START_MARGIN_S) * 1000

    def prepare(self, rows: JournalInsert) -> str:
        """Make a staging table and return its name."""
        self._staged += 1
        name = f"again_{self._staged}"
        self._staging[rows.kind, rows.partition].add(name)
        return name

    def put_back(self, rows: JournalInsert, staging: str) -> int:
        """Add the rows that are missing, and drop all staging tables. Raises RefusedError where this one is gone."""
        mine = self._staging[rows.kind, rows.partition]
        if staging not in mine:
            self.counts["staging tables dropped by a later owner"] += 1
            raise RefusedError
        mine.clear()
        table = self.rows[rows.kind]
        missing = [row for row in decode_payload(rows.kind, rows.payload, rows.format) if row.id not in table]
        self._into_table(rows.kind)(missing)
        self.counts["rows put back"] += len(missing)
        if rows.kind == LEDGER:
            self.torn.discard(rows.token)
        return len(missing)

    def roll_ups_lack(self, rows: JournalInsert) -> bool:
        """Return whether the roll-ups lack any of these rows."""
        return bool(self._lacking(rows))

    def complete_roll_ups(self, rows: JournalInsert) -> int:
        """Add what the roll-ups lack of the orgs, days and models of these rows; return how many sums that took."""
        lacking = self._lacking(rows)
        for roll_up, key, sums in lacking:
            roll_up[key] = sums
        added = len(lacking)
        self.counts["sums of roll-ups put back"] += added
        self.torn.discard(rows.token)
        self.half.discard(rows.token)
        return added

    def _lacking(self, rows: JournalInsert) -> list[tuple[defaultdict[Group, list[int]], Group, list[int]]]:
        """Return the sums of the roll-ups that lack some of these rows: which, of what, and what they should be."""
        stored = _requests(
            row for at, found in self.rows[REQUESTS].items() if at <= rows.high for row in found
        )
        mine = [row for row in stored if rows.low <= row.id and row.id % 1024 == rows.partition]
        usage_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 7)
        model_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 2)
        posted_day: defaultdict[Group, list[int]] = defaultdict(lambda: [0] * 2)
        add_to_usage_day(usage_day, stored)
        add_to_model_day(model_day, stored)
        add_to_posted_day(posted_day, stored)
        org_days = {(row.org, day_of(row.at_ms)) for row in mine}
        models = {(day_of(row.at_ms), row.model, rows.partition) for row in mine}
        posted = {(row.org, day_of(row.posted_ms)) for row in mine}
        due = [(self.usage_day, key, sums) for key, sums in usage_day.items() if key[:2] in org_days]
        due += [(self.model_day, key, sums) for key, sums in model_day.items() if key in models]
        if "posted_day" in self._feeds:
            due += [(self.posted_day, key, sums) for key, sums in posted_day.items() if key[:2] in posted]
        return [(roll_up, key, sums) for roll_up, key, sums in due if sums[0] > roll_up[key][0]]

    def _into_table(self, kind: str) -> Callable[[Sequence[Row]], None]:
        table = self.rows[kind]

        def write(rows: Sequence[Row]) -> None:
            for row in rows:
                table.setdefault(row.id, []).append(row)

        return write


def add_to_usage_day(sums_by_group: defaultdict[Group, list[int]], rows: Iterable[Row]) -> None:
    """Add rows of requests to the sums by org, day, model, key, provider, byok and tier."""
    for row in _requests(rows):
        group = (row.org, day_of(row.at_ms), row.model, row.key_id, row.provider, row.byok, row.tier)
        failed = int(row.status >= 400)
        counts = (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.beside_tokens)
        added = (1, failed, *counts, row.cost_nano)
        for i, value in enumerate(added):
            sums_by_group[group][i] += value


def add_to_model_day(sums_by_group: defaultdict[Group, list[int]], rows: Iterable[Row]) -> None:
    """Add rows of requests to the sums by day, model and partition."""
    for row in _requests(rows):
        sums = sums_by_group[day_of(row.at_ms), row.model, row.id % 1024]
        sums[0] += 1
        sums[1] += row.tokens


def add_to_posted_day(sums_by_group: defaultdict[Group, list[int]], rows: Iterable[Row]) -> None:
    """Add rows of requests to the sums by org, day of posting and day."""
    for row in _requests(rows):
        sums = sums_by_group[row.org, day_of(row.posted_ms), day_of(row.at_ms)]
        sums[0] += 1
        sums[1] += row.cost_nano


def _requests(rows: Iterable[Row]) -> list[RequestRow]:
    return [row for row in rows if isinstance(row, RequestRow)]


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

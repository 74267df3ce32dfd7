"""A sink over the models: it takes the steps of the product's own protocol, and stops wherever it may end.

Owns: how each step is taken, and gathering what is to be written. The steps themselves, and the rules for
ranges, are the product's (`pipeline/sink/protocol.py`). Called by: `members.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar, assert_never

from pipeline.inserts import DatabasePlace, JournalInsert
from pipeline.journal import position_of, public_id, read_headers
from pipeline.sink import ranges
from pipeline.sink.protocol import SETTLE_S, RangeWriter
from pipeline.sink.steps import (
    AdoptDatabase,
    CompleteRollUps,
    CountRows,
    FillRollUps,
    Insert,
    LookAtDatabase,
    MayHaveLost,
    NotConfirmedError,
    NothingIsUnderWay,
    Pause,
    Placed,
    PrepareStaging,
    PutBack,
    ReadJournal,
    RollUpsLack,
    SinkStep,
)
from pipeline.steps import (
    Commit,
    ConfirmOwner,
    Fence,
    LastHeaders,
    Now,
    Reached,
    Restore,
    TopicIds,
    TopicPlace,
)
from pipeline.topics import JOURNAL, SINK_STATE
from tests.simulation.clickhouse import LostError, RefusedError
from tests.simulation.driving import FencedLogModel, Stops, drive

if TYPE_CHECKING:
    from tests.simulation.members import Member, Pump
    from tests.simulation.world import World

T = TypeVar("T")

STEPS = (
    "sink.fenced",
    "sink.restoring",
    "sink.adopting",
    "sink.sent",
    "sink.recorded",
    "sink.inserting",
    "sink.retrying",
    "sink.inserted",
    "sink.counting",
    "sink.staging",
    "sink.putting back",
    "sink.completing roll-ups",
    "sink.filling roll-ups",
)


class SinkPump:
    """One partition of the journal in one sink's hands."""

    def __init__(self, world: World, member: Member, pump: Pump, partition: int) -> None:
        """Prepare; `run` makes it ours."""
        self._world, self._pump, self._partition = world, pump, partition
        self._broker, self._store, self._rng = world.broker, world.store, world.rng
        self._rules = world.plan.rules
        self._log = FencedLogModel(world, pump, f"sink-{partition}", "sink")
        self._writer = RangeWriter("simulation", partition, world.plan.safe_ms)
        self._judges_age = False
        """Whether rows counted next are those of a range that is too old to be sent, not of one that may be lost."""
        self._fills = False
        """Whether the sink is of the release that has the roll-up by day of posting."""
        _ = member

    def run(self) -> Iterator[str]:
        """Own the partition until told to stop, yielding the name of each stop."""
        self._fills = self._store.note_take_over()
        at = yield from drive(self._writer.take_over(), self._take)
        journal = self._broker.log(JOURNAL, self._partition)
        buffer: deque[Placed] = deque()
        next_ms = 0
        while True:
            records, at = journal.read(at, self._world.plan.read_max, committed=self._rules.read_committed)
            buffer += [(r.offset, read_headers(r.headers, r.value or b"")) for r in records]
            if not buffer or self._world.clock.now_ms < next_ms:
                yield "lingering" if buffer else "idle"
                continue
            most = min(
                len(buffer), self._rng.randint(1, self._world.plan.range_max), ranges.RANGE_RECORDS_MAX
            )
            yield from drive(self._writer.write([buffer.popleft() for _ in range(most)]), self._take)
            next_ms = self._world.clock.now_ms + self._world.plan.linger_ms

    def _take(self, step: SinkStep) -> Stops[object]:  # noqa: C901, PLR0911, PLR0912, PLR0915 - one case a step
        store = self._store
        match step:
            case Fence():
                yield from self._log.fence(TopicPlace(SINK_STATE, self._partition))
            case Restore(place):
                return step.answered((yield from self._log.restore(place)))
            case TopicIds(names):
                return step.answered({name: f"the id of {name}" for name in names})
            case Commit():
                yield from self._log.commit(step)
            case ConfirmOwner(place):
                yield from self._log.confirm_owner(place)
            case Reached(point):
                yield point
            case Now():
                self._judges_age = True
                return step.answered(self._world.clock.now_ms)
            case ReadJournal(first_offset, next_offset, _):
                return step.answered(self._read(first_offset, next_offset))
            case LastHeaders(place):
                newest = self._broker.log(*place).last_committed()
                return step.answered(None if newest is None else newest.headers)
            case LookAtDatabase(first, last):
                return step.answered(self._look(first, last))
            case AdoptDatabase(identity, epoch):
                self._asked(lambda: store.owners.add((identity, epoch)))
                yield "sink.adopting"
            case Insert(rows):
                yield from self._insert(rows)
            case CountRows(rows):
                self._world.counts["ranges found too old"] += self._judges_age
                self._judges_age = False
                found = store.count(rows.kind, rows.low, rows.high, rows.partition)
                yield "sink.counting"
                return step.answered(found)
            case RollUpsLack(rows):
                lack = store.roll_ups_lack(rows)
                self._world.counts["old ranges of which roll-ups lack"] += lack
                yield "sink.counting"
                return step.answered(lack)
            case MayHaveLost(within_s):
                self._judges_age = False
                return step.answered(store.was_started_within(within_s))
            case NothingIsUnderWay():
                return step.answered(store.nothing_is_under_way(self._partition))
            case PrepareStaging(rows):
                staging = self._asked(lambda: store.prepare(rows))
                yield "sink.staging"
                return step.answered(staging)
            case PutBack(rows, staging):
                added = self._asked(lambda: store.put_back(rows, staging))
                yield "sink.putting back"
                return step.answered(added)
            case CompleteRollUps(rows):
                added = self._asked(lambda: store.complete_roll_ups(rows))
                yield "sink.completing roll-ups"
                return step.answered(added)
            case FillRollUps(last):
                if not self._fills:
                    return step.answered(0)
                added = self._asked(lambda: store.fill(self._partition, public_id(self._partition, last)))
                yield "sink.filling roll-ups"
                return step.answered(added)
            case Pause(seconds):
                if seconds >= SETTLE_S:
                    store.land_all()
                yield "sink.retrying"
            case _:
                assert_never(step)
        return None

    def _look(self, first: int, last: int) -> DatabasePlace:
        """Return what `clickhouse/whose.py` asks of the database."""
        mine = {
            position_of(at)[1]
            for rows in self._store.rows.values()
            for at in rows
            if at % 1024 == self._partition
        }
        return DatabasePlace(
            tuple(self._store.owners),
            first <= 1 or first - 1 in mine,
            max((at for at in mine if at > last), default=0),
        )

    def _read(self, first_offset: int, next_offset: int) -> list[Placed]:
        entries, _ = self._broker.log(JOURNAL, self._partition).read(first_offset, 10**9)
        return [
            (e.offset, read_headers(e.headers, e.value or b"")) for e in entries if e.offset < next_offset
        ]

    def _insert(self, rows: JournalInsert) -> Iterator[str]:
        """Send an insert. While it is on its way, or its answer is, the process may end or freeze."""
        self._store.note_sent(self._partition)
        if self._world.may_be_late():
            # Whoever ends this process here may leave the insert on its way.
            self._pump.on_its_way = rows
            yield "sink.inserting"
            self._pump.on_its_way = None
            self._answer(rows)
            return
        try:
            self._answer(rows)
        finally:
            yield "sink.inserting"

    def _answer(self, rows: JournalInsert) -> None:
        try:
            self._store.insert(rows)
        except RefusedError:
            raise NotConfirmedError("refused") from None
        except LostError:
            if not self._rules.unclear_insert_is_done:
                raise NotConfirmedError("no answer") from None

    def _asked(self, statement: Callable[[], T]) -> T:
        try:
            return self._store.carry_out(statement)
        except (RefusedError, LostError) as error:
            raise NotConfirmedError(type(error).__name__) from None

"""A worker over the models: it takes the steps of the product's own protocol, and stops wherever it may end.

Owns: how each step is taken, and reading the inputs. The steps themselves, what is decided, and what goes to
which topic are the product's (`pipeline/posting/protocol.py`). Called by: `members.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, assert_never

from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import RateTable
from pipeline.posting import protocol
from pipeline.posting.protocol import AwaitCatalog, Decide, WorkerStep
from pipeline.posting.state import PartitionState
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
from pipeline.topics import INPUTS, STATE
from pipeline.worker.partition import CATALOG_AGE_LIMIT_S
from tests.simulation.driving import FencedLogModel, Stops, drive
from tests.simulation.kafka import Entry
from tests.support.builders import COMMAND_KEYS

if TYPE_CHECKING:
    from tests.simulation.members import Member, Pump
    from tests.simulation.world import World

GROUP = "worker"
STEPS = (
    "worker.fenced",
    "worker.restoring",
    "worker.restored",
    "worker.fetched",
    "worker.posting",
    "worker.decided",
    "worker.sending",
    "worker.sent",
    "worker.committed",
)


class WorkerPump:
    """One partition in one worker's hands."""

    def __init__(self, world: World, member: Member, pump: Pump, partition: int) -> None:
        """Prepare; `run` makes it ours."""
        self._world, self._member, self._pump = world, member, pump
        self._broker, self._rng = world.broker, world.rng
        self._rules, self._partition = world.plan.rules, partition
        self._log = FencedLogModel(world, pump, f"worker-{partition}", "worker")
        self._topic = ""
        self._promos = PromoTable()

    def run(self) -> Iterator[str]:
        """Own the partition until told to stop, yielding the name of each stop."""
        taking_over = protocol.take_over("simulation", self._partition, self._world.plan.partitions)
        state = yield from drive(taking_over, self._take)
        offsets = state.meta.offsets
        if self._rules.start == "group":
            offsets = {t: self._broker.group_offsets.get((GROUP, t, self._partition), 0) for t in INPUTS}
        at = {topic: offsets.get(topic, 0) for topic in INPUTS}
        while not self._pump.stopping:
            batches: list[tuple[str, list[Entry]]] = []
            for topic in self._rng.sample(INPUTS, len(INPUTS)):
                log = self._broker.log(topic, self._partition)
                records, at[topic] = log.read(
                    at[topic], self._world.plan.read_max, committed=self._rules.read_committed
                )
                if records:
                    batches.append((topic, records))
            if not batches:
                if self._rules.progress_told_between_units:
                    yield from drive(protocol.tell_progress(state), self._take)
                yield "idle"
                continue
            yield "worker.fetched"
            for topic, records in batches:
                if self._pump.stopping:
                    self._world.counts["batches dropped after a rebalance"] += 1
                    return
                yield from self._work(state, topic, records)

    def _work(self, state: PartitionState, topic: str, records: Sequence[Entry]) -> Iterator[str]:
        """Have a unit of work carried out, and the group's offsets follow it."""
        self._topic = topic
        if self._rules.group_offsets == "before":
            self._commit_offsets({topic: records[-1].offset + 1})
            yield "worker.posting"
        rates = self._member.rates_no_older_than(CATALOG_AGE_LIMIT_S)
        has_more = True
        while has_more:
            # It pauses at each event, so that the worker may end or be overtaken there.
            unit = protocol.unit_of_work(
                state, rates, self._promos, COMMAND_KEYS, topic, records, rest_every=1
            )
            posted = yield from drive(unit, self._take)
            has_more = posted is not None and posted.has_more
        if posted is not None and self._rules.group_offsets == "after":
            self._commit_offsets(posted.output.offsets)

    def _take(self, step: WorkerStep) -> Stops[object]:  # noqa: C901, PLR0912 - one case a step
        match step:
            case Fence():
                yield from self._log.fence(TopicPlace(STATE, self._partition))
            case Restore(place):
                return step.answered((yield from self._log.restore(place)))
            case TopicIds(names):
                return step.answered({name: f"the id of {name}" for name in names})
            case LastHeaders(place):
                last = self._broker.log(*place).last_committed()
                return step.answered(None if last is None else last.headers)
            case ConfirmOwner(place):
                yield from self._log.confirm_owner(place)
            case AwaitCatalog():
                self._member.follow_catalog()
            case Decide(decision):
                self._member.rates_no_older_than(CATALOG_AGE_LIMIT_S)
                for _ in decision:
                    if self._rng.random() < 0.1:
                        yield "worker.posting"
            case Commit(counts=counts):
                counts[f"events of {self._topic}"] = counts["events"]
                yield from self._log.commit(step)
            case Now():
                return step.answered(self._world.clock.now_ms)
            case Reached(point):
                yield point
            case _:
                assert_never(step)
        return None

    def _commit_offsets(self, offsets: dict[str, int]) -> None:
        for topic, offset in offsets.items():
            self._broker.group_offsets[GROUP, topic, self._partition] = offset


class Rates:
    """A worker's copy of the catalog, which is never older than it may be."""

    def __init__(self, world: World) -> None:
        """Read the catalog to its end, as a worker does before its first unit."""
        self._world = world
        self._table = RateTable()
        self._read, self._confirmed_ms = 0, 0
        self.follow()

    def follow(self) -> None:
        """Read on to the end of the catalog."""
        published = self._world.workload.rates
        for _, rate in published[self._read :]:
            self._table.add(rate)
        self._read, self._confirmed_ms = len(published), self._world.clock.now_ms

    def no_older_than(self, limit_s: float) -> RateTable:
        """Return the rates, reading on first where they were last confirmed too long ago."""
        if self._world.clock.now_ms - self._confirmed_ms > limit_s * 1000:
            self.follow()
        return self._table

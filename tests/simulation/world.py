"""One run: a seed's world, moved on step by step, healed, drained and compared with the truth.

Owns: whose turn it is, and when which fault strikes. Called by: `runs.py`.

Everything that is drawn comes from one generator, so a seed is the same run for ever.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from hashlib import blake2b

from pipeline.topics import INPUTS, JOURNAL, KEYS, MAIL_STATE, REQUESTS, SINK_STATE, STATE, VERDICTS
from tests.simulation.clickhouse import Store
from tests.simulation.clock import Clock
from tests.simulation.faults import Plan
from tests.simulation.kafka import Broker, FencedError, UnclearError
from tests.simulation.mail import MailServer
from tests.simulation.members import Group, Member, Pump
from tests.simulation.redriver import Redriver
from tests.simulation.truth import Truth
from tests.simulation.workload import Workload

COMPACTED = (STATE, SINK_STATE, MAIL_STATE, KEYS, VERDICTS)
SETTLED = (*INPUTS, STATE, JOURNAL, SINK_STATE, MAIL_STATE)
"""The topics that stand still once there is nothing more to do."""
TRACE_KEPT = 25
DRAIN_STEPS_MAX = 400_000
DEATHS_MAX = 50
"""After so many unexpected ends the run is over: something is wrong for good."""


class World:
    """Everything there is in a run."""

    def __init__(self, plan: Plan) -> None:
        """Build a seed's world."""
        self.plan = plan
        self.rng = rng = random.Random(f"world {plan.seed}")
        self.counts: Counter[str] = Counter()
        self.deaths: list[str] = []
        self.trace: deque[str] = deque(maxlen=TRACE_KEPT)
        self._digest = blake2b(digest_size=8)
        self.clock = Clock(rng)
        self.truth = Truth()
        self.broker = Broker(
            rng, lambda: self.clock.now_ms, fencing=plan.rules.fencing, slow_markers=plan.slow_markers
        )
        self.broker.lost_answer = plan.lost_answer
        self.store = Store(rng, plan, lambda: self.clock.now_ms)
        self.mail_server = MailServer(rng, plan)
        self.workload = Workload(rng, plan, self.broker, self.clock, self.truth)
        self.healed = False
        self.redriven_ms = 0
        self._redrivers: list[Iterator[str]] = []
        self.groups = [
            Group(self, "worker", plan.workers),
            Group(self, "sink", plan.sinks),
            Group(self, "mail", plan.mailers),
        ]

    @property
    def digest(self) -> str:
        """A mark of everything that happened: equal for equal runs."""
        return self._digest.hexdigest()

    def run(self) -> None:
        """Publish everything amid faults, then heal and drain."""
        while self.workload.left > 0 and len(self.deaths) < DEATHS_MAX:
            self._step()
        self._heal()
        self._drain()
        # Whoever redrives right after applying a rate may be ahead of a worker's copy of the catalog.
        self.clock.advance(60_000)
        self.redriven_ms = self.clock.now_ms
        for _ in Redriver(self, 1000).run():
            pass
        self._drain()

    def _drain(self) -> None:
        for _ in range(DRAIN_STEPS_MAX):
            if len(self.deaths) >= DEATHS_MAX or (self.rng.random() < 0.02 and self.drained()):
                break
            self._drain_step()
        self.broker.settle_all()

    def drained(self) -> bool:
        """Whether everything that came in has been carried to the end."""
        if self.store.late or self.workload.flush():
            return False
        every = set(range(self.plan.partitions))
        if any({p for m in g.members for p in m.pumps} != every for g in self.groups):
            return False
        if any(
            m.generation != g.generation or pump.step != "idle"
            for g in self.groups
            for m in g.members
            for pump in m.pumps.values()
        ):
            return False
        return self._settled()

    def _settled(self) -> bool:
        """Whether nothing is open and two rounds of every pump find nothing to do."""
        self.broker.settle_all()
        ends = self._ends()
        for group in self.groups:
            for member in list(group.members):
                for pump in list(member.pumps.values()) * 2:
                    if pump.partition in member.pumps:
                        group._advance(member, pump)
                    if pump.step != "idle":
                        return False
        return ends == self._ends()

    def _ends(self) -> list[int]:
        partitions = range(self.plan.partitions)
        return [self.broker.log(topic, p).next_offset for topic in SETTLED for p in partitions]

    # --- whose turn it is ---

    def _step(self) -> None:
        rng, chance = self.rng, self.rng.random()
        self.clock.tick()
        if chance < 0.09:
            self.workload.publish()
            self.workload.maybe_announce()
            self._maybe_jump()
        elif chance < 0.115:
            self.workload.command()
        elif chance < 0.15:
            self._broker_step()
        elif chance < 0.17:
            self.store.land_late()
        elif chance < 0.175:
            self._redrive_step()
        elif chance < 0.18:
            self.workload.mail()
        elif chance < 0.21:
            self._group_step(rng.choice(self.groups))
        else:
            self._process_step()

    def _drain_step(self) -> None:
        chance = self.rng.random()
        self.clock.advance(self.rng.randrange(60))
        if chance < 0.03:
            self.broker.settle_one()
            self.store.land_late()
        elif chance < 0.06:
            self._time_out_transactions()
            for group in self.groups:
                for member in group.missed[:1]:
                    group.expire(member)
        else:
            self._process_step()

    def _process_step(self) -> None:
        [group] = self.rng.choices(self.groups, cum_weights=(60, 94, 100))
        processes = group.processes()
        if processes:
            group.step(self.rng.choice(processes))

    def _broker_step(self) -> None:
        rng, broker = self.rng, self.broker
        what = rng.random()
        if what < 0.5:
            broker.settle_one()
        elif what < 0.5 + self.plan.compact / 2:
            log = broker.log(rng.choice(COMPACTED), rng.randrange(self.plan.partitions))
            below = rng.choice((log.next_offset, rng.randrange(log.next_offset + 1)))
            self.counts["compactions"] += 1
            self.counts["records compacted away"] += log.compact(below, self.clock.now_ms)
        elif what < 0.9:
            self._time_out_transactions()
        else:
            broker.log(REQUESTS, rng.randrange(self.plan.partitions)).skew_ms = rng.choice((0, 0, 300, 2000))
            for member in self.groups[0].members:
                member.follow_catalog()

    def _time_out_transactions(self) -> None:
        """Abort what is open of processes that are gone, and now and then of frozen ones."""
        alive = [p for group in self.groups for p in group.producers()]
        forgotten = self.broker.forgotten(alive)
        frozen = [
            pump.producer
            for group in self.groups
            for member in group.processes()
            if member.frozen
            for pump in member.pumps.values()
            if pump.producer is not None
        ]
        for producer in forgotten + frozen:
            if self.healed or self.rng.random() < 0.2:
                self.broker.time_out(producer)

    def _group_step(self, group: Group) -> None:
        rng, plan = self.rng, self.plan
        what = rng.random()
        if what < plan.expire:
            silent = group.missed + [m for m in group.members if m.frozen]
            if silent:
                group.expire(rng.choice(silent))
        elif 0.3 <= what < 0.5:
            frozen = [m for m in group.processes() if m.frozen]
            if frozen:
                group.wake(rng.choice(frozen))
        elif 0.5 <= what < 0.5 + plan.rebalance:
            if rng.random() < 0.5 and len(group.members) > 1:
                leaving = rng.choice(group.members)
                if not leaving.frozen:
                    self.counts["members taken for dead while alive"] += 1
                    group.expire(leaving)
            else:
                group.rebalance()
        elif 0.7 <= what < 0.7 + plan.reset_offsets:
            # An operator's tool, or expiry, changes what the group has committed. It must not matter.
            name = rng.choice(("worker", "sink"))
            topic = rng.choice((*INPUTS, JOURNAL))
            partition = rng.randrange(plan.partitions)
            end = self.broker.log(topic, partition).next_offset
            self.counts["group offsets changed from outside"] += 1
            self.broker.group_offsets[name, topic, partition] = rng.choice((0, end, rng.randrange(end + 1)))

    def _redrive_step(self) -> None:
        """Let an operator begin to redrive, maybe beside another one, or go on, or be interrupted."""
        rng = self.rng
        if not self._redrivers or (len(self._redrivers) < 2 and rng.random() < 0.1):
            self._redrivers.append(Redriver(self, rng.choice((1, 5, 1000))).run())
            self.counts["redrives"] += 1
        redriver = rng.choice(self._redrivers)
        try:
            step = next(redriver)
        except (StopIteration, FencedError, UnclearError):
            self._redrivers.remove(redriver)
            return
        self.trace.append(step)
        self._digest.update(step.encode())
        if rng.random() < self.plan.crash * 5:
            self.counts["crashes"] += 1
            self.counts[f"crash at {step}"] += 1
            self._redrivers.remove(redriver)

    def _maybe_jump(self) -> None:
        """Move the clock a long way, but for what a killed server has lost: that is found by the time it was started."""
        if self.rng.random() < self.plan.jump:
            while self.store.late:
                self.store.land_late()
            if not self.store.torn and not (self.plan.insert_torn and self._range_in_hand()):
                if self.rng.random() < 0.15:
                    self._long_outage()
                else:
                    self.clock.jump()
                if self.rng.random() < 0.5:
                    self.workload.restart()
                self.counts["clock jumps"] += 1

    def _long_outage(self) -> None:
        """Nobody works for longer than a source is remembered; then commands come before old requests."""
        self.counts["outages of over 35 days"] += 1
        self.workload.restart()
        self.clock.advance((37 + self.rng.randrange(20)) * 86_400_000)
        for _ in range(2 * self.plan.partitions):
            self.workload.command()

    def _range_in_hand(self) -> bool:
        """Whether a sink is between recording a range and the answer to its last insert."""
        return any(
            pump.step not in ("", "idle", "lingering", "sink.fenced", "sink.inserted")
            for member in self.groups[1].processes()
            for pump in member.pumps.values()
        )

    def may_be_late(self) -> bool:
        """Whether an insert whose sender has ended still arrives: only while its token is remembered."""
        return self.plan.safe_ms > 60_000 and self.rng.random() < 0.5

    # --- faults at a step ---

    def reached(self, group: Group, member: Member, pump: Pump) -> None:
        """Note a step that was reached; maybe the process ends or freezes right there."""
        step = pump.step
        if step in ("idle", "lingering"):
            return
        told = f"{member.name}/{pump.partition} {step}"
        self.trace.append(told)
        self._digest.update(told.encode())
        if self.healed:
            return
        chance, crash = self.rng.random(), self.plan.crash_at(step)
        if chance < crash:
            self.counts["crashes"] += 1
            self.counts[f"crash at {step}"] += 1
            self.trace.append(f"{member.name} ends")
            group.end(member)
        elif chance < crash + self.plan.freeze:
            self.counts["freezes"] += 1
            self.trace.append(f"{member.name} freezes")
            group.freeze(member)

    def died(self, member: Member, pump: Pump, error: Exception) -> None:
        """Note that a process ended by an error that no fault explains."""
        text = f"{member.name}/{pump.partition} after {pump.step}: {type(error).__name__}: {error}"
        self.deaths.append(text)
        self.trace.append(text)

    def _heal(self) -> None:
        """No more faults. Stale owners wake up and try to go on."""
        self.healed = True
        self.broker.lost_answer = 0.0
        self.store.faults = self.mail_server.faults = False
        for group in self.groups:
            for member in group.processes():
                if member.frozen:
                    group.wake(member)

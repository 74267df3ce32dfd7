"""Processes and the group that shares the partitions out among them.

Owns: joining and leaving, revoking before opening anew, ends and freezes of processes, and stale owners
that wake up. Called by: `world.py`. Next: `worker.py`, `sink.py` and `mail.py`, one pump a partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.catalog.rates import RateTable
from pipeline.inserts import JournalInsert
from tests.simulation.kafka import FencedError, Producer, UnclearError
from tests.simulation.mail import MailPump
from tests.simulation.sink import SinkPump
from tests.simulation.worker import Rates, WorkerPump

if TYPE_CHECKING:
    from tests.simulation.world import World

PUMPS: dict[str, type[WorkerPump | SinkPump | MailPump]] = {
    "worker": WorkerPump,
    "sink": SinkPump,
    "mail": MailPump,
}
NOTICES = 0.1
"""How likely at each step a process that was taken for dead hears of it."""


class Pump:
    """One partition in a process's hands."""

    def __init__(self, world: World, member: Member, partition: int) -> None:
        """Prepare the steps of the member's kind."""
        self.partition = partition
        self.stopping = False
        self.step = ""
        self.on_its_way: JournalInsert | None = None
        """The insert that a sink has under way."""
        self.mails_in_hand: set[str] = set()
        """The mail that a mailer has taken out of the topic, by its id, and not brought to an end."""
        self.producer: Producer | None = None
        self.steps: Iterator[str] = PUMPS[member.kind](world, member, self, partition).run()


class Member:
    """A process: a worker, a sink or a mailer."""

    def __init__(self, world: World, kind: str, number: int) -> None:
        """Start it; it owns nothing yet."""
        self.world, self.kind, self.name = world, kind, f"{kind}-{number}"
        self.pumps: dict[int, Pump] = {}
        self.generation = -1
        self.frozen = False
        self.ended = False
        self._rates = Rates(world) if kind == "worker" else None

    def rates_no_older_than(self, limit_s: float) -> RateTable:
        """Return the rates as this process knows them."""
        assert self._rates is not None
        return self._rates.no_older_than(limit_s)

    def follow_catalog(self) -> None:
        """Hear of new rates."""
        if self._rates is not None:
            self._rates.follow()


class Group:
    """A consumer group over the partitions."""

    def __init__(self, world: World, kind: str, size: int) -> None:
        """Start with `size` processes."""
        self._world, self._kind, self._rng = world, kind, world.rng
        self._started = 0
        self._to_start = 0
        self.generation = 0
        self.members: list[Member] = []
        self.outsiders: list[Member] = []
        """Processes taken for dead that are not: frozen, or awake again without knowing."""
        self.missed: list[Member] = []
        """Processes that have ended, for which the session has not expired yet."""
        self._owner: dict[int, Member] = {}
        self._joined: set[str] = set()
        self._barrier = True
        for _ in range(size):
            self.start()

    def start(self) -> Member:
        """Start a process, which joins."""
        self._started += 1
        member = Member(self._world, self._kind, self._started)
        self.members.append(member)
        self.rebalance()
        return member

    def processes(self) -> list[Member]:
        """Return every process that is there."""
        return self.members + self.outsiders

    def rebalance(self) -> None:
        """Share the partitions out anew. Every member first lets go of what it has."""
        self._world.counts["rebalances"] += 1
        self.generation += 1
        self._joined.clear()
        # Mostly nobody opens before all others have let go; but a slow member is not waited for for ever.
        self._barrier = self._rng.random() < 0.8
        members = self._rng.sample(self.members, len(self.members))
        self._owner = {p: members[p % len(members)] for p in range(self._world.plan.partitions) if members}

    def expire(self, member: Member) -> None:
        """Take a silent member for dead."""
        if member in self.missed:
            self.missed.remove(member)
            self.rebalance()
            for _ in range(self._to_start):
                self.start()
            self._to_start = 0
        elif member in self.members:
            self.members.remove(member)
            self.outsiders.append(member)
            self.rebalance()

    def step(self, member: Member) -> None:
        """Let a process do one step of one of its partitions, or follow the group."""
        if member.frozen or member.ended:
            return
        if member in self.outsiders and self._rng.random() < NOTICES:
            self.outsiders.remove(member)
            self.members.append(member)
            self.rebalance()
        if member.generation != self.generation and member in self.members:
            self._follow(member)
        elif member.pumps:
            pump = member.pumps[self._rng.choice(list(member.pumps))]
            self._advance(member, pump)

    def _follow(self, member: Member) -> None:
        for pump in list(member.pumps.values()):
            pump.stopping = True
            if self._kind == "sink":
                self._let_go(pump)
                del member.pumps[pump.partition]
        if member.pumps:
            self._advance(member, member.pumps[self._rng.choice(list(member.pumps))])
            return
        self._joined.add(member.name)
        if self._barrier and any(m.name not in self._joined for m in self.members if not m.frozen):
            return
        member.generation = self.generation
        for partition, owner in self._owner.items():
            if owner is member:
                member.pumps[partition] = Pump(self._world, member, partition)

    def _advance(self, member: Member, pump: Pump) -> None:
        world = self._world
        try:
            pump.step = next(pump.steps)
        except StopIteration:
            del member.pumps[pump.partition]
            return
        except (FencedError, UnclearError) as error:
            world.counts[f"ended by {type(error).__name__}"] += 1
            self.end(member)
            return
        except Exception as error:  # noqa: BLE001 - whatever ends a process is for the comparison to tell
            world.died(member, pump, error)
            self.end(member)
            return
        world.reached(self, member, pump)

    def end(self, member: Member) -> None:
        """End a process at once; the supervisor starts another."""
        member.ended = True
        for pump in member.pumps.values():
            self._let_go(pump)
        member.pumps.clear()
        if self._kind == "sink" and self._world.plan.embedded:
            self._world.store.end_with_process()
        if member in self.outsiders:
            self.outsiders.remove(member)
        else:
            self.members.remove(member)
            self.missed.append(member)
        if self.missed and self._rng.random() < 0.4:
            # The supervisor takes its time: for a while the partitions are nobody's.
            self._to_start += 1
        else:
            self.start()

    def _let_go(self, pump: Pump) -> None:
        """Drop a partition where it is. An insert on its way may arrive all the same; a mail in hand is lost."""
        self._world.mail_server.lost_in_hand |= pump.mails_in_hand
        if pump.on_its_way is not None:
            self._world.store.late.append(pump.on_its_way)
            self._world.counts["inserts on their way at the end"] += 1
        pump.on_its_way = None

    def freeze(self, member: Member) -> None:
        """Stop a process where it is."""
        member.frozen = True

    def wake(self, member: Member) -> None:
        """Let a frozen process go on as if nothing had happened."""
        member.frozen = False
        lost = [p for p in member.pumps if self._owner.get(p) is not member]
        if member in self.outsiders or lost or member.generation != self.generation:
            self._world.counts["stale owners woken"] += 1
        for pump in list(member.pumps.values()):
            # The first thing it does is what it was about to do.
            if not member.ended and not member.frozen:
                self._advance(member, pump)

    def producers(self) -> list[Producer]:
        """Return the producers of the processes that are there."""
        return [
            pump.producer
            for member in self.processes()
            for pump in member.pumps.values()
            if pump.producer is not None
        ]

"""A mailer over the models: it takes the steps of the product's own protocol, and stops wherever it may end.

Owns: how each step is taken, the model of a mail server, and the account of what became of each mail. The
steps themselves are the product's (`pipeline/mail/protocol.py`). Called by: `members.py`; `compare.py` asks.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, assert_never

from pipeline.mail import outbox
from pipeline.mail.outbox import Delivery
from pipeline.mail.protocol import Ended, Fate, HandOver, MailStep, MailTurns, Retried
from pipeline.mail.record import decode
from pipeline.mail.render import MailSender
from pipeline.steps import Beginning, Commit, Fence, LastHeaders, Now, Restore, Taken, TopicIds, TopicPlace
from pipeline.topics import MAIL, MAIL_STATE
from tests.simulation.driving import FencedLogModel, Stops, drive
from tests.simulation.faults import Plan
from tests.simulation.kafka import Entry

if TYPE_CHECKING:
    from tests.simulation.members import Member, Pump
    from tests.simulation.world import World

STEPS = ("mail.fenced", "mail.restoring", "mail.sent", "mail.committed", "mail.handing over")
FIRST_RETRY_MS = 500
SENDER = MailSender("Simulation", "billing@router.example")


class MailServer:
    """A mail server that takes a message, refuses it, or leaves the sender without an answer."""

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        """Start with nothing taken."""
        self._rng, self._plan = rng, plan
        self.faults = True
        self.counts: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        """How often each mail has come to an end, by its id."""
        self.lost_in_hand: set[str] = set()
        """Mails that a process had in hand when it ended."""

    def hand_over(self, mail_id: str) -> Delivery:
        """Take a mail or not, and say what its sender learns."""
        chance = self._rng.random() if self.faults else 1.0
        if chance < self._plan.mail_not_taken:
            self.counts["mails not taken"] += 1
            return Delivery.NOT_TAKEN
        if chance < self._plan.mail_not_taken + 0.05:
            self.counts["mails refused"] += 1
            return Delivery.REFUSED
        unclear = chance < self._plan.mail_not_taken + 0.15
        if not unclear or self._rng.random() < 0.5:
            self.taken[mail_id] += 1
        self.counts["mails without an answer" if unclear else "mails sent"] += 1
        return Delivery.UNCLEAR if unclear else Delivery.SENT


class MailPump:
    """One partition of the mail topic in one mailer's hands."""

    def __init__(self, world: World, member: Member, pump: Pump, partition: int) -> None:
        """Prepare; `run` makes it ours."""
        self._world, self._pump, self._partition = world, pump, partition
        self._server = world.mail_server
        self._log = FencedLogModel(world, pump, f"mail-{partition}", "mail")
        self._turns = MailTurns(
            "simulation", partition, SENDER, first_retry_ms=FIRST_RETRY_MS, has_server=True
        )
        self._records: deque[Entry] = deque()
        _ = member

    def run(self) -> Iterator[str]:
        """Own the partition until told to stop, yielding the name of each stop."""
        at = yield from drive(self._turns.take_over(), self._take)
        topic = self._world.broker.log(MAIL, self._partition)
        while not self._pump.stopping:
            records, at = topic.read(
                at, self._world.plan.read_max, committed=self._world.plan.rules.read_committed
            )
            self._records += records
            idle = yield from drive(self._turns.turn(self._records), self._take)
            if idle is not None:
                yield "idle" if idle.until_ms is None else "lingering"

    def _take(self, step: MailStep) -> Stops[object]:  # noqa: C901, PLR0911, PLR0912 - one case a step
        match step:
            case Fence():
                yield from self._log.fence(TopicPlace(MAIL_STATE, self._partition))
            case Restore(place):
                return step.answered((yield from self._log.restore(place)))
            case TopicIds(names):
                return step.answered({name: f"the id of {name}" for name in names})
            case LastHeaders(place):
                last = self._world.broker.log(*place).last_committed()
                return step.answered(None if last is None else last.headers)
            case Beginning():
                return step.answered(0)
            case Commit():
                yield from self._commit(step)
            case Now():
                return step.answered(self._world.clock.now_ms)
            case Taken(count):
                for _ in range(count):
                    self._records.popleft()
            case HandOver(mail_id):
                delivery = self._server.hand_over(mail_id)
                if delivery is Delivery.UNCLEAR and self._world.plan.rules.unclear_mail_is_not_taken:
                    delivery = Delivery.NOT_TAKEN
                yield "mail.handing over"
                return step.answered((delivery, "simulated"))
            case Retried():
                self._server.counts["mails tried again"] += 1
            case Ended(fate, name):
                assert fate not in (Fate.INVALID, Fate.SKIPPED), f"{name}: {fate}"
                self._server.ended[name] += 1
                self._pump.mails_in_hand.discard(name)
            case _:
                assert_never(step)
        return None

    def _commit(self, step: Commit) -> Iterator[str]:
        """Commit, and note which mail the process has in hand from the moment that this may have happened."""
        [[output]] = step.outputs.values()
        before, after = self._turns.outbox, outbox.decode(output.value or b"")
        waiting = {item.mail.id for item in after.waiting}
        taken_out = {item.mail.id for item in before.waiting} - waiting
        taken_out |= {decode(r.value).id for r in self._records if r.offset < after.next_offset}
        self._pump.mails_in_hand |= taken_out
        yield from self._log.commit(step)
        self._pump.mails_in_hand -= waiting
        yield "mail.committed"

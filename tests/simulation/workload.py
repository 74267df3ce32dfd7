"""What gateways, members and operators do: publishes, repetitions, nonsense, commands, rates.

Owns: the events and commands of a run, and what of them reached the input topics. It tells `truth.py`
of each element as it is appended, from what it meant, never from what the core made of the bytes.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.accounts import commands
from pipeline.accounts.notices import LowBalance, Mail, encode_mail
from pipeline.catalog.rates import Rate
from pipeline.partitioning import partition_of
from pipeline.topics import BILLING, MAIL, REQUESTS
from tests.simulation.clock import Clock
from tests.simulation.event_bytes import bytes_of
from tests.simulation.faults import SMALL_RING, Plan
from tests.simulation.kafka import Broker, Entry
from tests.simulation.truth import FROM_THE_START, Sent, Truth
from tests.support.builders import COMMAND_KEYS

MINUTE_MS = 60_000
DAY_MS = 86_400_000
NANO_PER_RUPEE = 10**9
KEYS_AN_ORG = 4

ROUTE_OF = ("steady",) * 55 + ("changing",) * 28 + ("coming",) * 15 + ("never",) * 2
"""A route whose rate stays, one whose rate changes, one that gets its first rate late, one that gets none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NONSENSE = (
    (b'{"specversion": nope}', "malformed"),
    (b"{}", "invalid"),
    (b'{"specversion":"1.0","type":"another"}', "invalid"),
    (b"17", "invalid"),
    (b'"a text"', "invalid"),
)


OfAnOrg = (
    commands.SignUp
    | commands.CreateKey
    | commands.ChangeKey
    | commands.Credit
    | commands.ByPayment
    | commands.SetThreshold
    | commands.View
)


@dataclass
class Gateway:
    """A source that numbers its events and keeps them in a spool until they are acknowledged."""

    name: str
    astray: bool
    number: int = 0
    spool: deque[Sent] = field(default_factory=deque)
    acknowledged: deque[Sent] = field(default_factory=lambda: deque(maxlen=30))


class Workload:
    """Everything that comes in from outside."""

    def __init__(self, rng: random.Random, plan: Plan, broker: Broker, clock: Clock, truth: Truth) -> None:
        """Prepare the orgs, sources and first rates of a seed."""
        self._rng, self._plan, self._broker, self._clock, self._truth = rng, plan, broker, clock, truth
        self.left = plan.events
        self.rates: list[tuple[int, Rate]] = truth.rates
        self._orgs = [f"org_{plan.seed}_{n}" for n in range(plan.orgs)]
        weights = [1 / (n + 1) for n in range(plan.orgs)]
        self._cumulated = [sum(weights[: n + 1]) for n in range(plan.orgs)]
        self._partition = {org: partition_of(org, plan.partitions) for org in self._orgs}
        self._gateways = [Gateway(f"gateway/{n}", plan.astray and n == 0) for n in range(3)]
        self._recent: deque[Sent] = deque(maxlen=60 if plan.ring == SMALL_RING else 2_000)
        self._commands: deque[tuple[int, OfAnOrg]] = deque(maxlen=20)
        self._made = 0
        self._payments = 0
        for route in FROM_THE_START:
            self.announce(route, from_ms=0)

    # --- rates ---

    def announce(self, route: str, from_ms: int | None = None) -> None:
        """Publish a rate; one that is not the first starts at least 60 s ahead, as the catalog wants it."""
        rng, now_ms = self._rng, self._clock.now_ms
        start_ms = now_ms + MINUTE_MS + rng.randrange(2 * MINUTE_MS) if from_ms is None else from_ms
        prices = sorted(rng.randrange(1, 60_000) for _ in range(3))
        rate = Rate(route, "provider", start_ms, prices[1], prices[0], prices[2])
        self.rates.append((now_ms, rate))

    def maybe_announce(self) -> None:
        """Now and then change a rate or give a route its first."""
        if self._rng.random() < 0.02 and len(self.rates) < 12:
            route = self._rng.choice(("changing", "coming"))
            known = any(rate.model == route for _, rate in self.rates)
            # A first rate may start in the past: what was unpriced until then can be redriven.
            in_the_past = not known and self._rng.random() < 0.7
            self.announce(route, 0 if in_the_past else None)
            if in_the_past:
                # Once every worker knows it, events that were dead letters come again.
                self._clock.advance(50_000)
                for gateway in self._gateways:
                    self._restart(gateway)

    # --- mails ---

    def mail(self) -> None:
        """Write a mail, as the worker's alerts are too rare to try the mailer by."""
        self._made += 1
        org = self._rng.choice(self._orgs)
        at_ms = self._clock.now_ms
        mail = Mail(f"m{self._made}", org, f"{org}@example.in", org, at_ms, LowBalance(5, 7))
        self._broker.publish(MAIL, self._partition[org], encode_mail(mail))

    # --- events ---

    def publish(self) -> None:
        """Have one source publish something."""
        rng = self._rng
        if rng.random() < 0.75:
            self._by_gateway(rng.choice(self._gateways))
        else:
            self._unnumbered()

    def flush(self) -> bool:
        """Send what is still in the spools; return whether there was anything."""
        waiting = [gateway for gateway in self._gateways if gateway.spool]
        for gateway in waiting:
            self._send(gateway, lossy=False)
        return bool(waiting)

    def _by_gateway(self, gateway: Gateway) -> None:
        rng = self._rng
        for _ in range(rng.choice((1, 4, 12, 30))):
            if self.left > 0:
                gateway.number += 1
                gateway.spool.append(self._event(gateway.name, gateway.number, astray=gateway.astray))
                self.left -= 1
        trouble = rng.random()
        if trouble < 0.02:
            self._restart(gateway)
        elif trouble < 0.024:
            # The spool is lost: another spool is another source, and its numbers start again.
            gateway.name += "'"
            gateway.number = 0
            gateway.spool.clear()
            gateway.acknowledged.clear()
        elif trouble < 0.05 and self._plan.astray and gateway.acknowledged:
            # What was charged where it belongs comes again by way of another partition. Of late numbers only:
            # an earlier one is a duplicate there too.
            sent = rng.choice(list(gateway.acknowledged)[-3:])
            self._append((sent.partition + 1) % self._plan.partitions, [sent])
            self._truth.counts["numbered events sent again elsewhere"] += 1
        self._send(gateway, lossy=True)

    def restart(self) -> None:
        """Restart a gateway."""
        self._restart(self._rng.choice(self._gateways))

    def _restart(self, gateway: Gateway) -> None:
        """Have a gateway send again what was acknowledged lately."""
        again = self._rng.randrange(len(gateway.acknowledged) + 1)
        gateway.spool.extendleft(list(gateway.acknowledged)[::-1][:again])
        gateway.acknowledged.clear()
        self._truth.counts["gateways restarted"] += 1
        self._send(gateway, lossy=True)

    def _send(self, gateway: Gateway, *, lossy: bool) -> None:
        """Send the spool in order, a record a partition; on trouble all of it stays in the spool."""
        rng = self._rng
        lanes: dict[int, list[Sent]] = {}
        batch = [gateway.spool[i] for i in range(min(len(gateway.spool), 80))]
        for sent in batch:
            lanes.setdefault(sent.partition, []).append(sent)
        acknowledged = True
        for partition, events in lanes.items():
            if lossy and rng.random() < 0.03:
                acknowledged = False
                continue
            self._append(partition, events)
            if lossy and rng.random() < 0.03:
                acknowledged = False
        if acknowledged:
            for _ in batch:
                gateway.acknowledged.append(gateway.spool.popleft())

    def _unnumbered(self) -> None:
        """Publish events that only their ids tell apart, some of them once more."""
        rng = self._rng
        made: list[Sent] = []
        for _ in range(rng.choice((1, 2, 6))):
            if self._recent and rng.random() < 0.3:
                made.append(rng.choice(self._recent))
            elif self.left > 0:
                made.append(self._event(f"plain/{rng.randrange(2)}", None, astray=False))
                self.left -= 1
        lanes: dict[int, list[Sent]] = {}
        for sent in made:
            partition = sent.partition
            if self._plan.astray and rng.random() < 0.1:
                partition = rng.randrange(self._plan.partitions)
            lanes.setdefault(partition, []).append(sent)
            self._recent.append(sent)
        for partition, events in lanes.items():
            self._append(partition, events)

    def _append(self, partition: int, events: list[Sent]) -> None:
        """Append a record, sometimes with nonsense among the events or cut off."""
        rng = self._rng
        elements = [sent.value for sent in events]
        bad: list[tuple[bytes, str]] = []
        if rng.random() < 0.01:
            bad.append(rng.choice(NONSENSE))
            elements.insert(rng.randrange(len(elements) + 1), bad[0][0])
        if len(elements) == 1 and rng.random() < 0.5:
            value = elements[0]
        else:
            value = b"[" + b",".join(elements) + b"]"
        if rng.random() < self._plan.transactional:
            entry = self._publish_in_transaction(partition, value)
        else:
            entry = self._broker.publish(REQUESTS, partition, value)
        self._truth.accept(entry.timestamp, events, bad)
        if rng.random() < 0.003:
            cut = value[:-1] + b"{" if value[:1] == b"[" else b""
            entry = self._broker.publish(REQUESTS, partition, cut)
            self._truth.accept(entry.timestamp, [], [(cut, "malformed")])

    def _publish_in_transaction(self, partition: int, value: bytes) -> Entry:
        """Publish as a producer does that uses transactions: what it aborts counts for nothing, and is sent again."""
        producer = self._broker.start_producer(f"gateway-{partition}")
        log = self._broker.log(REQUESTS, partition)
        while True:
            producer.begin(Counter())
            entry = producer.send(log, None, value)
            commits = self._rng.random() >= 1 / 3
            assert producer.transaction is not None
            self._broker.decide(producer.transaction, committed=commits)
            if commits:
                return entry
            self._truth.counts["producers' transactions aborted"] += 1

    def _event(self, source: str, sequence: int | None, *, astray: bool) -> Sent:
        below = self._below
        self._made += 1
        org = self._orgs[bisect_right(self._cumulated, self._rng.random() * self._cumulated[-1])]
        key = below(KEYS_AN_ORG)
        trial, byok, failed, broken = key == KEYS_AN_ORG - 1, below(20) == 0, below(20) == 0, below(300) == 0
        prompt, completion = below(3_000), below(1_000)
        cached = below(prompt + 1) if completion % 2 else 0
        beside = below(500) if prompt % 16 == 1 else 0
        if failed:
            prompt = cached = completion = beside = 0
        partition = self._partition[org]
        if astray and self._plan.partitions > 1 and key == 0:
            partition = (partition + 1) % self._plan.partitions
        sent = Sent(
            source=source,
            event_id=f"e{self._made}",
            org=org,
            key=f"{org}_key_{key}",
            tier="trial" if trial else "standard",
            byok=byok,
            model="coming" if self._plan.unpriced > self._chance() else ROUTE_OF[below(100)],
            failed=failed,
            at_ms=self._time(),
            tokens=(prompt, cached, completion, beside),
            free=trial or byok or failed,
            valid=failed or not broken,
            partition=partition,
            value=b"",
        )
        number = "" if sequence is None else f"{sequence:020d}" if self._plan.seed % 2 else str(sequence)
        sent.value = bytes_of(sent, number, below(5_000))
        return sent

    def _time(self) -> int:
        """Return the time of a request: mostly now, sometimes at an edge, late or ahead."""
        rng, now_ms = self._rng, self._clock.now_ms
        kind = rng.random()
        if kind < 0.85:
            return now_ms - self._below(3_000)
        if kind < 0.92:
            edge = self._clock.ist_midnight_near()
            return min(edge + rng.choice((-1, 0, 1, -1000, 999)), now_ms + 9 * MINUTE_MS)
        if kind < 0.96:
            return now_ms - rng.randrange(34 * DAY_MS)
        if kind < 0.98:
            return now_ms + rng.randrange(9 * MINUTE_MS)
        if kind < 0.99:
            return now_ms - 35 * DAY_MS - rng.choice((60_000, DAY_MS, 300 * DAY_MS))
        return now_ms + rng.choice((11 * MINUTE_MS, 15 * MINUTE_MS, DAY_MS, 400 * DAY_MS))

    def _chance(self) -> float:
        """Return a number from 0 to 1 where a plan has requests without a rate; others draw as they always did."""
        return self._rng.random() if self._plan.unpriced else 1.0

    def _below(self, bound: int) -> int:
        return int(self._rng.random() * bound)

    # --- commands ---

    def command(self) -> None:
        """Send a command, an earlier one again, or nonsense."""
        rng = self._rng
        what = rng.random()
        if what < 0.03:
            self._bad_command(rng.randrange(self._plan.partitions), b'{"kind":"fly"}', "malformed")
            return
        command: commands.AnyCommand
        if what < 0.2 and self._commands:
            partition, command = rng.choice(self._commands)
        elif what < 0.25:
            partition = rng.randrange(self._plan.partitions)
            self._made += 1
            command = commands.Barrier(f"c{self._made}")
        else:
            command = self._new_command()
            partition = self._partition[command.org]
            self._commands.append((partition, command))
            if rng.random() < 0.01 and self._plan.partitions > 1:
                wrong = (partition + 1) % self._plan.partitions
                self._bad_command(wrong, commands.encode(command), "invalid")
                return
            if rng.random() < 0.01:
                self._bad_command(partition, commands.encode(command), "unauthenticated")
                return
        self._send_command(partition, commands.encode(command))
        self._truth.commands.append((partition, command))

    def _bad_command(self, partition: int, value: bytes, reason: str) -> None:
        self._send_command(partition, value, signed=reason != "unauthenticated")
        self._truth.bad_commands.append((value, reason))

    def _send_command(self, partition: int, value: bytes, *, signed: bool = True) -> None:
        headers = COMMAND_KEYS.headers(value, partition, self._clock.now_ms) if signed else ()
        self._broker.publish(BILLING, partition, value, headers=headers)

    def _new_command(self) -> OfAnOrg:  # noqa: C901, PLR0911 - one a kind of command
        rng = self._rng
        self._made += 1
        org, command_id = rng.choice(self._orgs), f"c{self._made}"
        key = f"{org}_key_{rng.randrange(KEYS_AN_ORG)}"
        limit = rng.choice((None, 1, 5, 50))
        budget = rng.choice((None, 0, 10**6, 10**8, 10**9))
        what = rng.random()
        if what < 0.2:
            return commands.SignUp(command_id, org, f"Org {org}", f"{org}@example.in")
        if what < 0.45:
            return commands.CreateKey(
                command_id,
                org,
                key,
                name=f"name of {key}",
                prefix="br-",
                hash=f"{self._made:064x}",
                tier="trial" if key.endswith(str(KEYS_AN_ORG - 1)) else "standard",
                budget_nano=budget,
                daily_limit=limit,
            )
        if what < 0.6:
            return commands.ChangeKey(command_id, org, key, budget_nano=budget, daily_limit=limit)
        if what < 0.63:
            return commands.ChangeKey(command_id, org, key, revoked=True)
        if what < 0.7:
            return commands.View(command_id, org)
        if what < 0.82:
            return self._payment(command_id, org)
        if what < 0.88:
            threshold_nano = rng.choice((None, 50, 5_000, 1_000_000))
            if threshold_nano is not None:
                threshold_nano *= NANO_PER_RUPEE
            return commands.SetThreshold(command_id, org, threshold_nano)
        amount_nano = rng.choice((1, 500, 2_000, 50_000)) * NANO_PER_RUPEE + rng.randrange(1000)
        sign = -1 if rng.random() < 0.15 else 1
        if rng.random() < 0.05 and self._commands:
            # An id that served another command already: refused, without any effect.
            earlier = rng.choice(self._commands)[1]
            if not isinstance(earlier, commands.View) and earlier.org == org:
                command_id = earlier.id
        return commands.Credit(command_id, org, sign * amount_nano, "a reason", fingerprint="credit")

    def _payment(self, command_id: str, org: str) -> OfAnOrg:
        """Return news of a payment or refund: new, or told before in another way, or not quite right."""
        rng = self._rng
        number = rng.randrange(max(0, self._payments - 6), self._payments + 1)
        self._payments = max(self._payments, number + 1)
        payment_id, order_id, amount_paise = f"pay_{org}_{number}", f"order_{org}_{number}", 10_000 + number
        what = rng.random()
        if what < 0.15:
            return commands.Fail(command_id, org, payment_id, order_id, amount_paise, "INR", 0)
        if what < 0.35:
            refund_id = f"rfnd_{org}_{number}_{rng.randrange(3)}"
            amount_paise = amount_paise // rng.choice((1, 2, 3))
            failed = rng.random() < 0.25
            return commands.TakeRefund(command_id, org, refund_id, payment_id, amount_paise, "INR", failed)
        wrong = rng.random() < 0.05
        return commands.Capture(
            command_id,
            org,
            payment_id,
            order_id,
            amount_paise + wrong,
            "INR",
            0,
            order=commands.FoundOrder(amount_paise),
        )

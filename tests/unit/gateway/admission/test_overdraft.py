"""One gateway, its log and the real core of the worker, in every order: no org goes below zero."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.accounts.commands import Credit
from pipeline.accounts.verdicts import Verdict, decode_record, floor_nano
from pipeline.gateway.admission.admission import Admission
from pipeline.gateway.admission.holds import Hold
from pipeline.money import format_inr
from pipeline.posting import progress
from tests.support.builders import MANY_EXAMPLES, NOW_MS, Books, event, packed

TOKEN_NANO = 50_000
ORGS = ("org_1", "org_2")


@dataclass
class World:
    """A gateway, Kafka's log of requests and of verdicts, and the worker."""

    named: bool
    scale: int
    books: Books = field(default_factory=Books)
    requests: list[tuple[bytes, Hold | None]] = field(default_factory=list)
    acknowledged: int = 0
    posted: int = 0
    told: list[tuple[bytes, bytes]] = field(default_factory=list)
    heard: int = 0
    running: list[tuple[str, str, int]] = field(default_factory=list)
    started: int = 0

    def __post_init__(self) -> None:
        self.gateway = Admission(
            lambda: NOW_MS, when_stale="open", stale_after_ms=10**9, reservation_limit_ms=10**9
        )
        self.gateway.caught_up(NOW_MS)

    def credit(self, org: str, amount_nano: int) -> None:
        command = Credit(f"c{self.started}{len(self.told)}", org, amount_nano, "test")
        self.told += self.books.send(command).verdicts

    def ask(self, org: str, tokens: int) -> None:
        self.started += 1
        name = str(self.started)
        refused = self.gateway.admit(
            org,
            "key_1",
            max_cost_inr=format_inr(tokens * TOKEN_NANO),
            request_id=name if self.named else None,
        )
        if refused is None:
            self.running.append((org, name, tokens))

    def finish(self, at: int, share: int) -> None:
        org, name, tokens = self.running.pop(at % len(self.running))
        usage = {"prompt_tokens": 0, "completion_tokens": tokens * share // 100}
        value = packed(event(name, subject=org, data__usage=usage))
        hold = self.gateway.publishing(org, "key_1", name if self.named else None)
        self.requests.append((value, hold))

    def acknowledge(self) -> None:
        _, hold = self.requests[self.acknowledged]
        self.gateway.sent(0, self.acknowledged, [hold] if hold is not None else [])
        self.acknowledged += 1

    def post(self, count: int) -> None:
        values = [value for value, _ in self.requests[self.posted : self.posted + count]]
        self.posted += len(values)
        self.told += self.books.publish(*values).verdicts

    def tell(self) -> None:
        """Tell how far the verdicts count, where units have left that out."""
        self.told += progress.record(self.books.state, beside_verdicts=True)

    def hear(self) -> None:
        said = decode_record(*self.told[self.heard])
        self.heard += 1
        if isinstance(said, Verdict):
            self.gateway.take_verdict(said)
        else:
            self.gateway.take_progress(said)

    def step(self, what: str, a: int, b: int) -> None:
        if what == "ask":
            self.ask(ORGS[a % 8 == 0], 1 + b * self.scale)
        elif what == "finish" and self.running:
            self.finish(a, 100 if b > 20 else b)
        elif what == "acknowledge" and self.acknowledged < len(self.requests):
            self.acknowledge()
        elif what == "post" and self.posted < len(self.requests):
            self.post(1 + a % 3)
        elif what == "tell":
            self.tell()
        elif what == "hear" and self.heard < len(self.told):
            self.hear()
        elif what == "credit":
            self.credit(ORGS[a % 2], 1 + b * self.scale * TOKEN_NANO)

    def settle(self) -> None:
        while self.running:
            self.finish(0, 100)
        while self.acknowledged < len(self.requests):
            self.acknowledge()
        while self.posted < len(self.requests):
            self.post(3)
        self.tell()
        while self.heard < len(self.told):
            self.hear()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask"] * 4
            + ["finish"] * 3
            + ["acknowledge"] * 3
            + ["post"] * 2
            + ["tell"]
            + ["hear"] * 4
            + ["credit"]
        ),
        st.integers(0, 100),
        st.integers(0, 100),
    ),
    min_size=20,
    max_size=80,
)
SMALL = 200
"""Tokens a step: requests of up to a rupee."""
LARGE = 200_000
"""Requests of up to a thousand rupees, where what is told is no longer exact."""


@settings(MANY_EXAMPLES, max_examples=300)
@given(_STEPS, st.booleans(), st.sampled_from([SMALL, LARGE]), st.integers(0, 300))
def test_with_costs_given_one_gateway_alone_never_overdraws(
    steps: list[tuple[str, int, int]], named: bool, scale: int, requests: int
) -> None:
    world = World(named, scale)
    world.credit("org_1", 1 + requests * scale * TOKEN_NANO)
    world.hear()
    for what, a, b in steps:
        world.step(what, a, b)
        assert all(world.books.balance_nano(org) >= 0 for org in ORGS)
    world.settle()
    for org in ORGS:
        balance_nano = world.books.balance_nano(org)
        assert balance_nano >= 0
        spendable_nano = world.gateway.spendable_nano(org)
        if spendable_nano is not None:
            verdict_nano = world.books.state.account(org).spending.verdict_nano
            assert verdict_nano is not None
            assert spendable_nano == floor_nano(verdict_nano) <= balance_nano
    assert world.gateway.reservations_open == 0
    assert world.gateway.uncounted_ms() == 0

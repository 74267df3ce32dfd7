"""Refused until the last millisecond of an IST month or day, admitted in the next, with nothing told between.

The worker's core decides and its records, as bytes, are all that admission hears; only the clock moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline import ist
from pipeline.accounts.commands import ChangeKey, CreateKey, Credit
from pipeline.accounts.keys import decode_key
from pipeline.accounts.verdicts import Verdict, decode_record
from pipeline.gateway.admission.admission import Admission
from pipeline.money import NANO_PER_RUPEE
from pipeline.posting.unit import UnitOutput
from tests.support.builders import COST_NANO, Books, event, packed, time_text

TURN_MS = ist.month_end_ms(202606)
"""2026-07-01T00:00:00 IST, which is 18:30 UTC on 30 June."""
LAST_MS = TURN_MS - 1
HOUR_MS = 3_600_000


@dataclass
class World:
    """The worker's books, and a gateway that hears what they tell."""

    now_ms: int = TURN_MS - HOUR_MS
    books: Books = field(default_factory=Books)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.gateway = Admission(
            lambda: self.now_ms, when_stale="open", stale_after_ms=10**12, reservation_limit_ms=10**12
        )
        self.gateway.caught_up(self.now_ms)
        self.command(Credit("c", "org_1", 1000 * NANO_PER_RUPEE, "test"))

    def _hear(self, outcome: UnitOutput) -> None:
        for key, value in outcome.verdicts:
            said = decode_record(key, value)
            if isinstance(said, Verdict):
                self.gateway.take_verdict(said)
        for _, record in outcome.keys:
            assert record is not None
            self.gateway.take_key(decode_key(record))

    def command(self, *commands: Credit | CreateKey | ChangeKey) -> None:
        self._hear(self.books.send(*commands, at_ms=self.now_ms))

    def key(self, **limits: Any) -> None:
        self.command(CreateKey("k", "org_1", "key_1", "name", "br-0", "hash", **limits))

    def requests(self, number: int, at_ms: int, **changes: Any) -> None:
        made = []
        for _ in range(number):
            self.numbers += 1
            made.append(event(f"e{self.numbers}", time=time_text(at_ms), **changes))
        self._hear(self.books.publish(packed(*made), at_ms=self.now_ms))

    def code(self, at_ms: int, tier: str = "standard") -> str | None:
        """What a request is told at an instant; the worker says nothing more."""
        self.now_ms = at_ms
        refusal = self.gateway.admit("org_1", "key_1", tier)
        return refusal.code if refusal is not None else None


def test_a_spent_budget_lasts_until_the_last_millisecond_of_the_ist_month() -> None:
    world = World()
    world.key(budget_nano=2 * COST_NANO)
    world.requests(1, world.now_ms)
    assert world.code(world.now_ms) is None
    world.requests(1, world.now_ms)
    assert world.code(LAST_MS) == "budget_exceeded"
    assert world.code(TURN_MS) is None
    assert world.code(ist.month_end_ms(202607)) is None
    refused = (world.code(LAST_MS), world.gateway.admit("org_1", "key_1"))[1]
    assert refused is not None
    assert (refused.http_status, refused.retry_after) == (429, 1)
    assert refused.resets_at == "2026-07-01T00:00:00.000+05:30"


def test_a_daily_limit_lasts_until_the_last_millisecond_of_the_ist_day() -> None:
    world = World()
    world.key(daily_limit=3)
    world.requests(3, world.now_ms, data__status=500, data__usage=None)
    assert world.code(LAST_MS) == "daily_limit_reached"
    assert world.code(TURN_MS) is None


def test_a_late_event_of_last_month_is_not_counted_in_this_ones_budget() -> None:
    world = World(now_ms=TURN_MS + HOUR_MS)
    world.key(budget_nano=2 * COST_NANO, daily_limit=3)
    world.requests(5, LAST_MS)
    assert world.code(TURN_MS + HOUR_MS) is None
    assert world.code(TURN_MS) is None
    world.requests(2, TURN_MS)
    assert world.code(TURN_MS + HOUR_MS) == "budget_exceeded"


def test_an_event_of_the_next_month_does_not_refuse_this_month() -> None:
    """A gateway's clock may be some minutes ahead of the worker's."""
    world = World(now_ms=LAST_MS - 60_000)
    world.key(budget_nano=2 * COST_NANO, daily_limit=2)
    world.requests(2, TURN_MS)
    assert world.code(LAST_MS) is None
    assert world.code(TURN_MS) == "budget_exceeded"


def test_a_late_event_after_the_turn_does_not_bring_the_refusal_back() -> None:
    world = World()
    world.key(budget_nano=2 * COST_NANO)
    world.requests(2, world.now_ms)
    assert world.code(TURN_MS + HOUR_MS) is None
    world.requests(3, LAST_MS)
    assert world.code(TURN_MS + HOUR_MS) is None


@pytest.mark.parametrize("registered", [True, False])
def test_a_trial_key_has_two_hundred_requests_a_day(registered: bool) -> None:
    world = World()
    if registered:
        world.key(tier="trial")
    world.requests(199, world.now_ms, data__tier="trial")
    assert world.code(TURN_MS - 2, "trial") is None
    world.now_ms = TURN_MS - 2
    world.requests(1, TURN_MS - 2, data__tier="trial")
    assert world.code(LAST_MS, "trial") == "daily_limit_reached"
    assert world.code(TURN_MS, "trial") is None
    assert world.books.balance_nano() == 1000 * NANO_PER_RUPEE


def test_raising_the_budget_releases_at_once_and_lowering_it_refuses_at_once() -> None:
    world = World()
    world.key(budget_nano=COST_NANO)
    world.requests(2, world.now_ms)
    assert world.code(world.now_ms) == "budget_exceeded"
    world.command(ChangeKey("r1", "org_1", "key_1", budget_nano=3 * COST_NANO))
    assert world.code(world.now_ms) is None
    world.command(ChangeKey("r2", "org_1", "key_1", budget_nano=2 * COST_NANO))
    assert world.code(world.now_ms) == "budget_exceeded"
    world.command(ChangeKey("r3", "org_1", "key_1", budget_nano=None))
    assert world.code(world.now_ms) is None

"""When owners are asked to tell of a month's statement, and how often. What an owner then does: tests/unit/posting/test_commands.py."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from pipeline import ist
from pipeline.accounts.results import StatementsTold
from pipeline.kafka.commands import UnavailableError
from pipeline.telling import statements_ready
from pipeline.telling.statements_ready import SETTLE_MS, StatementsReady
from tests.support.builders import NOW_MS

MONTH = ist.month_of(NOW_MS)
MONTH_END_MS = ist.month_end_ms(MONTH)


@dataclass
class Owners:
    """The owners of some partitions, each with so many orgs left to tell; `away` ones do not answer."""

    left: list[int]
    asked: list[tuple[int, int]] = field(default_factory=list)
    away: set[int] = field(default_factory=set)
    is_over: bool = True

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.left)

    async def tell_statements(self, partition: int, month: int, /) -> StatementsTold:
        """Tell a hundred orgs at most."""
        if partition in self.away:
            raise UnavailableError("away")
        self.asked.append((partition, month))
        if not self.is_over:
            return StatementsTold(0, has_more=True)
        orgs = min(self.left[partition], 100)
        self.left[partition] -= orgs
        return StatementsTold(orgs, has_more=self.left[partition] > 0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements_ready, "PAUSE_S", 0.0)


async def test_owners_are_asked_from_a_quarter_of_an_hour_after_the_month_until_they_are_done() -> None:
    owners, now = Owners([250, 0]), [MONTH_END_MS + SETTLE_MS - 1]
    ready = StatementsReady(owners, lambda: now[0])
    await ready.turn()
    before = ist.month_of(ist.month_start_ms(MONTH) - 1)
    assert {month for _, month in owners.asked} == {before}
    owners.left, owners.asked = [250, 0], []
    now[0] += 1
    for _ in range(3):
        await ready.turn()
    assert owners.asked == [(0, MONTH)] * 3 + [(1, MONTH)]
    assert owners.left == [0, 0]


async def test_a_start_asks_each_partition_once_however_many_orgs_were_told() -> None:
    """Three servers at a month's end, of which two begin anew: with 100,000 orgs that is 1,000 questions and 24 for each start."""
    owners, now_ms = Owners([100_000 // 24] * 24), MONTH_END_MS + SETTLE_MS
    await StatementsReady(owners, lambda: now_ms).turn()
    assert len(owners.asked) == 24 * 42
    for _ in range(2):
        owners.asked.clear()
        again = StatementsReady(owners, lambda: now_ms)
        for _ in range(5):
            await again.turn()
        assert owners.asked == [(partition, MONTH) for partition in range(24)]


async def test_an_owner_that_is_away_or_whose_month_is_not_over_is_asked_in_the_next_round() -> None:
    owners = Owners([150, 150, 1], away={1})
    ready = StatementsReady(owners, lambda: MONTH_END_MS + SETTLE_MS)
    await ready.turn()
    assert owners.left == [0, 150, 0]
    owners.away = set()
    owners.is_over = False
    owners.asked.clear()
    await ready.turn()
    assert owners.asked == [(1, MONTH)]
    owners.is_over = True
    await ready.turn()
    assert owners.left == [0, 0, 0]


async def test_an_owner_that_is_not_up_yet_is_no_warning_but_one_that_stays_away_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    owners = Owners([5], away={0})
    ready = StatementsReady(owners, lambda: NOW_MS)
    for _ in range(2):
        await ready.turn()
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]

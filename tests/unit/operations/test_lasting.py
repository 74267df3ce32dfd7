"""Differences that last: figures that move with the traffic hide none, and what a look finds gone is none."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pipeline.operations import lasting
from pipeline.operations.audit import Difference
from pipeline.operations.lasting import LOOKS_MAX, SAME_LOOKS, lasting_differences


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "BETWEEN_LOOKS_S", 0.0)


class Looks:
    """What each look finds, the last one again and again."""

    def __init__(self, *found: Iterable[Difference]) -> None:
        self.found, self.made = list(found), 0

    async def __call__(self) -> set[Difference]:
        at = min(self.made, len(self.found) - 1)
        self.made += 1
        return set(self.found[at])


def _differs(of: str, rows: int = 1, rolled: int = 2) -> Difference:
    return Difference("usage_day", of, str(rows), str(rolled))


async def test_what_agrees_is_looked_at_once() -> None:
    looks = Looks([])
    assert (await lasting_differences(looks), looks.made) == ([], 1)


async def test_what_stays_as_it_is_is_told_after_some_looks_in_order() -> None:
    looks = Looks([_differs("b"), _differs("a")])
    assert await lasting_differences(looks) == [_differs("a"), _differs("b")]
    assert looks.made == SAME_LOOKS


async def test_what_was_behind_for_a_moment_is_no_difference() -> None:
    looks = Looks([_differs("a"), _differs("b")], [_differs("b")], [_differs("a")])
    assert await lasting_differences(looks) == []


async def test_figures_that_move_with_the_traffic_hide_no_difference() -> None:
    """Rows of a group that was taken out of a roll-up: both sides grow with each look, and never agree."""
    looks = Looks(*([_differs("a", 10 + look, look)] for look in range(2 * LOOKS_MAX)))
    last = LOOKS_MAX - 1
    assert await lasting_differences(looks) == [_differs("a", 10 + last, last)]
    assert looks.made == LOOKS_MAX


async def test_figures_that_move_until_a_look_without_them_are_no_difference() -> None:
    moving = [[_differs("a", 10 + look, look)] for look in range(LOOKS_MAX - 1)]
    assert await lasting_differences(Looks(*moving, [])) == []


async def test_figures_that_come_to_rest_are_told_soon() -> None:
    looks = Looks([_differs("a", 1)], [_differs("a", 3)], [_differs("a", 4)])
    assert await lasting_differences(looks) == [_differs("a", 4)]
    assert looks.made == 2 + SAME_LOOKS

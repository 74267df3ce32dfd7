"""No change of the catalog changes what an accepted event costs, whenever its worker comes to know of the change.

A model of the ways in which a worker may be behind: it confirms the catalog now and then, publishing takes a
while, clocks differ, events are ahead of their time stamps, and these of the worker's clock. All by the bounds that the rule counts on.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog import apply
from pipeline.catalog.apply import (
    ANNOUNCED_MS,
    CATALOG_AGE_MAX_MS,
    CLOCKS_APART_MAX_MS,
    PUBLISHING_MAX_MS,
    CatalogError,
    plan,
    withdraw,
)
from pipeline.catalog.rates import Rate, RateTable
from pipeline.events import AHEAD_MS, STAMP_AHEAD_MS
from tests.support.builders import EXAMPLES, NOW_MS, rate, rate_table

MINUTE_MS = 60_000
ROUTE = rate().route


@dataclass(frozen=True)
class Change:
    """A rate published or, where `input_nano` is None, withdrawn, by an operator who asked at an instant."""

    asked_ms: int
    start_ms: int
    input_nano: int | None
    clock_ms: int
    takes_ms: int


@dataclass(frozen=True)
class Request:
    """An event that a worker posts at an instant, by a catalog that it confirmed so long ago."""

    posted_ms: int
    waited_ms: int
    ahead_ms: int
    clock_ms: int
    age_ms: int

    @property
    def at_ms(self) -> int:
        """The event's own time: at most AHEAD_MS ahead of the time stamp that its broker gave it."""
        return self.posted_ms - self.waited_ms + self.clock_ms + self.ahead_ms


_clocks = st.integers(0, CLOCKS_APART_MAX_MS)
_stamps = st.integers(0, CLOCKS_APART_MAX_MS + STAMP_AHEAD_MS)
"""By how much a time stamp may be ahead: the worker that takes it goes by its own clock, and that may be ahead too."""
_instants = st.integers(NOW_MS, NOW_MS + 60 * MINUTE_MS)
_changes = st.builds(
    Change,
    asked_ms=_instants,
    start_ms=st.integers(NOW_MS, NOW_MS + 90 * MINUTE_MS).map(lambda ms: ms - ms % MINUTE_MS),
    input_nano=st.none() | st.integers(1, 3),
    clock_ms=_clocks,
    takes_ms=st.integers(0, PUBLISHING_MAX_MS),
)
_requests = st.builds(
    Request,
    posted_ms=_instants,
    waited_ms=st.sampled_from([0, 0, 1, 30_000, 20 * MINUTE_MS]),
    ahead_ms=st.integers(-30 * MINUTE_MS, AHEAD_MS),
    clock_ms=_stamps,
    age_ms=st.integers(0, CATALOG_AGE_MAX_MS),
)


def _published(changes: list[Change]) -> list[tuple[int, RateTable]]:
    """Return the catalogs one after the other, each with the instant from which it can be read."""
    versions, ended_ms = [(0, rate_table(rate(from_ms=0)))], 0
    for change in sorted(changes, key=lambda change: change.asked_ms):
        # Publishers take turns, as each fences the one before; whoever waits asks for the time afterwards.
        asked_ms = max(change.asked_ms, ended_ms)
        known, now_ms = versions[-1][1], asked_ms + change.clock_ms
        table = rate_table(*known)
        try:
            if change.input_nano is None:
                table.remove(ROUTE, withdraw(known, ROUTE, change.start_ms, now_ms).from_ms)
            else:
                for each in plan(known, [_rate(change)], now_ms):
                    table.add(each)
        except CatalogError:
            continue
        ended_ms = asked_ms + change.takes_ms
        versions.append((ended_ms, table))
    return versions


def _rate(change: Change) -> Rate:
    assert change.input_nano is not None
    return rate(from_ms=change.start_ms, input_nano=change.input_nano)


def _charged_wrongly(changes: list[Change], requests: list[Request]) -> list[Request]:
    """Return the requests that were charged by another rate than the one that the catalog names in the end."""
    versions = _published(changes)
    final = versions[-1][1]
    wrong = []
    for request in requests:
        confirmed_ms = request.posted_ms - request.age_ms
        known = [table for from_ms, table in versions if from_ms <= confirmed_ms][-1]
        if known.in_force(*ROUTE, request.at_ms) != final.in_force(*ROUTE, request.at_ms):
            wrong.append(request)
    return wrong


@EXAMPLES
@given(st.lists(_changes, max_size=5), st.lists(_requests, max_size=20))
def test_what_an_accepted_event_costs_does_not_depend_on_when_it_is_posted(
    changes: list[Change], requests: list[Request]
) -> None:
    assert _charged_wrongly(changes, requests) == []


# Announced at 0, starting 6 minutes later; two equal requests, 9 minutes ahead, before and after it is known.
DEARER = Change(NOW_MS, NOW_MS + 6 * MINUTE_MS, 3, clock_ms=0, takes_ms=1_000)
BEFORE = Request(NOW_MS + 500, 0, 9 * MINUTE_MS, clock_ms=0, age_ms=0)
AFTER = Request(NOW_MS + 2_000, 0, 9 * MINUTE_MS - 1_500, clock_ms=0, age_ms=0)


def test_two_equal_requests_cost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BEFORE.at_ms == AFTER.at_ms
    assert _charged_wrongly([DEARER], [BEFORE, AFTER]) == []
    # The model sees it where rates are announced a minute ahead: the earlier one was charged by the old rate.
    monkeypatch.setattr(apply, "ANNOUNCED_MS", MINUTE_MS)
    assert _charged_wrongly([DEARER], [BEFORE, AFTER]) == [BEFORE]


def test_the_worst_case_is_within_the_bound_to_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    start_ms = NOW_MS + ANNOUNCED_MS
    change = Change(NOW_MS, start_ms, 3, clock_ms=0, takes_ms=PUBLISHING_MAX_MS)
    posted_ms = NOW_MS + PUBLISHING_MAX_MS + CATALOG_AGE_MAX_MS - 1
    last = Request(posted_ms, 0, AHEAD_MS, CLOCKS_APART_MAX_MS + STAMP_AHEAD_MS, CATALOG_AGE_MAX_MS)
    assert last.at_ms == start_ms - 1
    assert _charged_wrongly([change], [last]) == []
    monkeypatch.setattr(apply, "ANNOUNCED_MS", ANNOUNCED_MS - 1)
    sooner = Change(NOW_MS, start_ms - 1, 3, clock_ms=0, takes_ms=PUBLISHING_MAX_MS)
    assert _charged_wrongly([sooner], [last]) == [last]

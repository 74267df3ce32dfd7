"""Each panel of the board returns what its title says, of a healthy demo under a real Prometheus: `make board`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from statistics import fmean, median

import pytest

from tests.support.board.observed import RATE, STEP_S, Observed
from tests.support.board.panels import Panel, Target, panels
from tests.support.board.pictures import keep_pictures
from tests.support.chromium import chromium_path

PANELS = panels()
EMPTY_OR_NOT: dict[str, str] = {
    "Partitions: Opening": "only while a partition is being opened",
    "Sink and notary: Since the last signed day": "only once a day of the demo has closed",
    "Payments: Open orders asked about a minute": "only where an order stays open for some seconds",
    "Worker: Records that cannot be understood": "only after a first one",
    "Worker: Time to take over a partition": "only after one was taken over while Prometheus looked",
    "API: Connections let go": "only after a connection was beyond a limit",
    "Promises: Books": "hours only after a verify came to its end",
    "Promises: Gateways' spools": "no gateway of the demo is scraped",
    "Promises: Gateways": "no gateway of the demo is scraped",
}
"""Panels that may return nothing of a healthy demo, and why."""


def panel(name: str) -> Panel:
    """Return a panel by its row and title."""
    [found] = [each for each in PANELS if each.name == name]
    return found


def target(name: str, legend: str) -> Target:
    """Return a query of a panel by its legend."""
    [found] = [each for each in panel(name).targets if each.legend == legend]
    return found


def values(run: Observed, asked: Target, since_s: float | None = None) -> Sequence[float]:
    """Return the values of a query that returns one line."""
    [series] = run.over(asked, since_s)
    return [value for _, value in series.points]


@pytest.mark.parametrize("asked", PANELS, ids=lambda asked: asked.name)
def test_a_panel_returns_lines_that_its_legend_tells_apart(observed: Observed, asked: Panel) -> None:
    for query in asked.targets:
        series = observed.over(query)
        names = [query.line_name(each.labels) for each in series]
        assert len(names) == len(set(names)), names
        assert all(names), query.legend
        assert asked.name in EMPTY_OR_NOT or any(each.points for each in series), query.expression
        observed.now(query)  # what Grafana asks for a table; Prometheus takes it


def test_no_panel_is_excused_that_is_not_there() -> None:
    assert EMPTY_OR_NOT.keys() <= {each.name for each in PANELS}


def test_nobody_is_paged(observed: Observed) -> None:
    """Tickets may come of a machine that does much else: transactions and inserts take long there. They are printed."""
    firing = observed.prometheus.instant('ALERTS{alertstate="firing"}', observed.last.at_s)
    print([each.labels["alertname"] for each in firing])
    firing = [each for each in firing if each.labels["severity"] == "page"]
    # The demo's sink runs in its server, so the job of that name is missing.
    found = [dict(each.labels) for each in firing]
    assert [each for each in found if (each["alertname"], each.get("job")) != ("MeteringDown", "sink")] == []


def test_events_a_second_are_what_was_sent_and_what_was_charged(observed: Observed) -> None:
    first, last = observed.first, observed.last
    charged = (last.requests - first.requests) / (last.at_s - first.at_s)
    posted, read = (
        fmean(values(observed, target("First: Events a second", legend), first.at_s + 4 * STEP_S))
        for legend in ("posted", "read")
    )
    assert posted == pytest.approx(charged, rel=0.1)
    assert posted <= read < posted * 1.05
    # What is refused makes no event, and a key that was refused pauses.
    assert posted == pytest.approx(observed.served_a_second, rel=0.25)
    rows = fmean(
        point
        for series in observed.over(
            target("Sink and notary: Rows a second", "{{kind}}"), first.at_s + 4 * STEP_S
        )
        if series.labels["kind"] == "requests"
        for _, point in series.points
    )
    assert rows == pytest.approx(posted, rel=0.1)


def test_rupees_a_minute_are_what_the_ledger_took(observed: Observed) -> None:
    first, last = observed.first, observed.last
    minutes = Decimal(last.at_s - first.at_s) / 60
    debited = fmean(
        values(observed, target("First: Rupees a minute debited", "debited"), first.at_s + 4 * STEP_S)
    )
    assert debited == pytest.approx(float((last.cost_inr - first.cost_inr) / minutes), rel=0.25)


def test_counters_are_exactly_between_the_books_before_and_after(observed: Observed) -> None:
    before, counted, after = observed.exact
    assert before.requests <= counted["metering_requests_posted_total"] <= after.requests
    assert before.requests < after.requests
    # A sum of floating point numbers against one of decimals.
    debited = Decimal(counted["metering_debited_rupees_total"])
    assert before.cost_inr - Decimal("0.000001") <= debited <= after.cost_inr + Decimal("0.000001")


def test_nothing_is_behind_and_nothing_stands_still(observed: Observed) -> None:
    since_s = observed.first.at_s
    for name in (
        "First: Seconds behind",
        "Worker: Worker behind, by partition",
        "Sink and notary: Sink behind, by partition",
    ):
        for query in panel(name).targets:
            found = [value for each in observed.over(query, since_s) for _, value in each.points]
            # On a machine that does much else an insert takes seconds now and then.
            assert median(found) < 5, name
    for series in observed.over(target("Partitions: Lag", "{{part}} {{topic}} {{partition}}"), since_s):
        assert all(value < 10 * RATE for _, value in series.points), series
    for series in observed.over(target("Partitions: Standing still", "{{part}} {{partition}}"), since_s):
        assert all(value < 30 for _, value in series.points), series


def test_partitions_owned_are_all_there_are(observed: Observed) -> None:
    owned = values(observed, target("Worker: Partitions owned", "all"), observed.first.at_s)
    assert set(owned) == {observed.at.partitions}


def test_what_went_wrong_is_nothing(observed: Observed) -> None:
    for name in (
        "First: Dead letters a minute",
        "Worker: Duplicates that differ",
        "Sink and notary: Inserts sent again a minute",
    ):
        for query in panel(name).targets:
            assert {value for each in observed.over(query) for _, value in each.points} == {0.0}, name


def test_a_payment_shows(observed: Observed) -> None:
    [captured] = [
        each
        for each in observed.over(target("Payments: Payments and refunds a minute", "{{outcome}}"))
        if each.labels["outcome"] == "payment captured"
    ]
    assert max(value for _, value in captured.points) > 0


def test_the_board_is_drawn(observed: Observed) -> None:
    chromium = chromium_path()
    if chromium is None:
        pytest.skip("there is no Chromium to make pictures with (apt-get install chromium)")
    made = keep_pictures(observed.shown, (observed.start_s, observed.last.at_s), chromium)
    for path in made:
        print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")
    assert len(made) == 2 * len({each.row for each in PANELS})

"""ClickHouse that answers nothing, that is busy, and that refuses: what waits, who is told, and that nothing is missing then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.clickhouse.misbehaviour import Fault, Mixture
from tests.support.runbooks.hurried import LONGEST_S
from tests.support.runbooks.load import ORGS
from tests.support.runbooks.walk import Walk


@contextmanager
def frozen(walk: Walk) -> Iterator[None]:
    """Have ClickHouse take connections and answer nothing."""
    walk.product.clickhouse.freeze()
    try:
        yield
    finally:
        walk.product.clickhouse.thaw()


def test_clickhouse_answers_nothing(walk: Walk) -> None:
    soon = ("MeteringSinkStands", "MeteringApiErrors", "MeteringApiSlow")
    burning = ("MeteringBudgetBurnsFast", "MeteringBudgetBurns", "MeteringBudgetLeaks")
    sink = walk.product.sink
    assert sink is not None
    walk.quiet(*soon)
    walk.until(lambda: not firing_for(walk, "availability"), "no budget burns", 2 * LONGEST_S)
    with frozen(walk):
        walk.fires(*soon, *burning)
        walk.until(lambda: firing_for(walk, "availability") == set(burning), "it is availability that burns")
        assert "sink running" in walk.look("MeteringSinkStands", sink)
        assert '"clickhouse":"does not answer in time"' in walk.look("MeteringApiErrors")
    walk.over(*soon)
    walk.until(lambda: not firing_for(walk, "availability"), "the budget is kept again", 2 * LONGEST_S)
    nothing_is_missing(walk)


def test_clickhouse_stays_away_from_a_partition(walk: Walk) -> None:
    alert = "MeteringPartitionUnwritten"
    walk.quiet(alert)
    with frozen(walk):
        # Two minutes without a row are two minutes in a hurry too: the metric itself counts them.
        walk.fires(alert, limit_s=300)
    walk.over(alert)
    nothing_is_missing(walk)


def firing_for(walk: Walk, objective: str) -> set[str]:
    """Return the alerts that fire for an objective."""
    asked = f'ALERTS{{alertstate="firing", slo="{objective}"}}'
    return {each.labels["alertname"] for each in walk.prometheus.instant(asked, time.time())}


def nothing_is_missing(walk: Walk) -> None:
    """Wait until ClickHouse has every event that was taken, each once."""
    sql = "SELECT org, toUInt32(count()), toUInt32(uniqExact(event_id)) FROM events GROUP BY org"
    walk.load.paused.set()
    try:

        def has_all() -> bool:
            rows = {org: numbers for org, *numbers in walk.product.clickhouse.ask(sql)}
            return all(rows[org] == [walk.load.taken[org]] * 2 for org in ORGS)

        walk.until(has_all, "ClickHouse has what was taken")
    finally:
        walk.load.paused.clear()


def test_clickhouse_is_busy(walk: Walk) -> None:
    walk.quiet("MeteringSinkRetries")
    walk.product.clickhouse.misbehave(Mixture(share=1, kinds=(Fault.BUSY,)))
    try:
        walk.fires("MeteringSinkRetries")
    finally:
        walk.product.clickhouse.behave()
    walk.over("MeteringSinkRetries")


def test_clickhouse_refuses_for_certain(walk: Walk) -> None:
    walk.quiet("MeteringSinkRefused")
    walk.statement("RENAME TABLE metering.events TO metering.events_elsewhere")
    try:
        walk.fires("MeteringSinkRefused")
        assert walk.product.sink is not None
        assert "metering.events" in walk.product.sink.words(), "ClickHouse's own words"
    finally:
        walk.statement("RENAME TABLE metering.events_elsewhere TO metering.events")
    walk.do("MeteringSinkRefused", "metering migrate")
    walk.over("MeteringSinkRefused")

"""The simulation of large deployments: it counts right, keeps the product's bounds, and comes to what was measured."""

from __future__ import annotations

import pytest

from bench.scale import (
    UNIT_EVENTS_MAX,
    Costs,
    Deployment,
    bill,
    check,
    largest,
    rates,
    simulate,
    sink,
    worker,
)
from pipeline.sink.pace import INSERTS_A_SECOND
from pipeline.worker.service import UNIT_EVERY_S

COSTS = Costs()


def test_orgs_share_the_events_and_none_is_lost() -> None:
    found = rates(Deployment(1_000, 12, 2))
    assert len(found) == 12
    assert sum(found) == pytest.approx(1_000)
    assert max(found) > 1_000 / 12, "the largest org is in one partition"


def test_at_a_low_rate_each_event_is_a_unit_of_its_own() -> None:
    units = list(worker([(0, 10.0), (1, 5.0)], COSTS, 10.0))
    assert [unit.events for unit in units] == [1] * len(units)
    assert len(units) == pytest.approx(150, abs=3)
    least_s = COSTS.unit_worker_s + COSTS.event_worker_s + COSTS.commit_s
    assert min(wait for unit in units for wait in unit.waits_s) == pytest.approx(least_s)


def test_a_partition_begins_no_unit_before_it_may_and_takes_all_that_came() -> None:
    units = list(worker([(0, 20_000.0)], COSTS, 10.0))
    assert len(units) == pytest.approx(10 / UNIT_EVERY_S, rel=0.02)
    assert sum(unit.events for unit in units) == pytest.approx(200_000, rel=0.01)


def test_a_worker_that_is_given_too_much_is_busy_all_the_time_and_falls_behind() -> None:
    found = simulate(Deployment(200_000, 4, 1), COSTS, seconds=8.0)
    assert found.busiest_worker == pytest.approx(1.0, abs=0.02)
    assert found.charged_p99_s > 1
    assert found.events_a_unit <= UNIT_EVENTS_MAX
    assert simulate(Deployment(20_000, 4, 1), COSTS, seconds=8.0).charged_p99_s < 0.2


def test_sinks_together_insert_no_more_often_than_they_may() -> None:
    for sinks in (1, 4):
        found = simulate(Deployment(50_000, 64, 8, sinks=sinks), COSTS, seconds=12.0)
        assert found.inserts_per_s <= INSERTS_A_SECOND * 1.2
        assert found.inserts_per_s * found.rows_an_insert == pytest.approx(50_000, rel=0.1)


def test_what_was_committed_before_an_insert_is_in_it() -> None:
    units = list(worker([(0, 100.0)], COSTS, 6.0))
    inserts = list(sink(units, 1, COSTS))
    assert sum(each.rows for each in inserts) == sum(unit.events for unit in units)
    assert all(each.at_s > each.oldest_s for each in inserts)


def test_a_bill_counts_copies_days_and_spare_cores() -> None:
    figures = simulate(Deployment(20_000, 4, 1), COSTS, seconds=8.0)
    found = bill(Deployment(20_000, 4, 1), figures)
    a_day = 20_000 * 86_400
    assert found.kafka_gb == a_day * 3 * (82 * 60 + 13 * 365) // 10**9 == 50_103
    assert found.clickhouse_gb == a_day * 2 * 28 * 365 // 10**9 == 35_320
    assert found.cores == 12
    assert found.rupees == 12 * 2_700 + (50_103 + 35_320) * 720 // 100


def test_the_largest_org_has_the_share_that_is_said() -> None:
    assert largest(Deployment(1, 1, 1)) == pytest.approx(0.102, abs=0.001)
    assert largest(Deployment(1, 1, 1, skew=0.5)) == pytest.approx(0.005, abs=0.0005)


def test_it_comes_to_what_was_measured_of_a_sink(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(), capsys.readouterr().out

"""The benchmark of the answers fills a year with rows of all the columns that there are."""

from __future__ import annotations

from bench.year import NewerRows, fill, last_number
from pipeline.clickhouse.client import Engine

EVENTS = 500


def test_a_year_is_filled_and_goes_on(engine: Engine) -> None:
    fill(engine, EVENTS)
    assert last_number(engine) == EVENTS
    newer = NewerRows(engine, EVENTS)
    engine.insert_blocks("events", newer.take(20), 20, "newer")
    assert last_number(engine) == EVENTS + 20

"""ClickHouse that is busy, and that refuses: who is told."""

from __future__ import annotations

from tests.support.clickhouse.misbehaviour import Fault, Mixture
from tests.support.runbooks.walk import Walk


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

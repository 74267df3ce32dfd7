"""A gateway's numbers, as Prometheus' own parser reads them."""

from __future__ import annotations

from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from pipeline.gateway.metrics import exposition
from tests.support.deploy import GATEWAY_STATUS


def test_prometheus_reads_how_a_gateway_stands() -> None:
    status = structs.replace(GATEWAY_STATUS, stale=True)
    families = {each.name: each for each in text_string_to_metric_families(exposition(status).decode())}
    assert {sample.name: sample.value for each in families.values() for sample in each.samples} == {
        "metering_gateway_ready": 1,
        "metering_gateway_stale": 1,
        "metering_gateway_problems": 1,
        "metering_gateway_waiting_events": 3,
        "metering_gateway_spool_bytes": 900,
        "metering_gateway_spool_limit_bytes": 1 << 30,
        "metering_gateway_records_sent_total": 40,
    }
    assert families["metering_gateway_records_sent"].type == "counter"
    assert families["metering_gateway_spool_bytes"].type == "gauge"
    assert all(each.documentation for each in families.values())

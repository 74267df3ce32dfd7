"""The metrics: named as Prometheus' conventions have it, each in a group, and all of them on docs/metrics.md."""

from __future__ import annotations

import re
import runpy
import subprocess

import pytest
from prometheus_client import REGISTRY

from pipeline.exposition import MetricDescription, MetricGroup, MetricsText
from pipeline.release import release
from pipeline.telemetry import GROUPS, shown_by
from tests.support.deploy import ROOT, every_metric, shown_otherwise
from tests.support.prometheus import program

PAGE = runpy.run_path(str(ROOT / "docs" / "metrics.py"))
METRICS = every_metric()
ROLES = ("worker", "sink", "notary", "server")
NOT_A_BASE_UNIT = re.compile(
    r"_(ms|milliseconds|micros|nanos?|minutes|hours|days|kb|mb|kib|mib|kilobytes|megabytes|percent|paise|lakhs)(_|$)"
)
UNBOUNDED = {"org", "key", "key_id", "user", "email", "id", "source", "model"}
"""What there may be any number of: each value would be a series for ever."""


def test_the_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert committed == PAGE["page"](), "run `python docs/metrics.py`"


def test_the_page_says_of_a_metric_what_is_declared_and_what_looks_at_it() -> None:
    rows = {
        cells[0].strip("`"): cells
        for line in PAGE["page"]().splitlines()
        if line.startswith("| `metering_")
        for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
    }
    assert rows.keys() == {metric.name for metric in METRICS}
    assert rows["metering_dead_letters_total"][1:4] == ["counter", "number", "`reason`"]
    assert "First: Dead letters a minute" in rows["metering_dead_letters_total"][5]
    assert "[MeteringUnpriced](runbooks.md#meteringunpriced)" in rows["metering_dead_letters_total"][6]
    assert rows["metering_unit_seconds"][2] == "seconds"
    assert "MeteringUnitsSlow" in rows["metering_unit_seconds"][6]


def test_an_alert_on_a_recorded_series_looks_at_what_is_recorded() -> None:
    recorded = {
        "metering:a": "rate(metering:b[5m])",
        "metering:b": "sum(metering_events_total)",
        "metering:c": "up",
    }
    assert PAGE["spelled_out"]("metering:a > 1", recorded).splitlines() == [
        "metering:a > 1",
        "rate(metering:b[5m])",
        "sum(metering_events_total)",
    ]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_conventions(metric: MetricDescription) -> None:
    assert re.fullmatch(r"metering(_[a-z0-9]+)+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert not re.search(r"_(counter|gauge|histogram|summary|bucket|count|sum)(_|$)", metric.name)
    assert not NOT_A_BASE_UNIT.search(metric.name)
    assert metric.tells[0] == metric.tells[0].upper() and not metric.tells.endswith(".")
    for label in metric.labels:
        assert re.fullmatch(r"[a-z]+", label)
        assert label not in UNBOUNDED


def test_every_metric_is_in_one_group() -> None:
    assert len(METRICS) == len({metric.name for metric in METRICS}) >= 49
    ours = [family.name for family in REGISTRY.collect() if family.name.startswith("metering_")]
    assert ours == [], "declare metrics in a group of pipeline/telemetry.py"
    assert all(group.roles and set(group.roles) <= set(ROLES) for group in GROUPS)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_shows_its_metrics_and_no_others(role: str) -> None:
    text = MetricsText(shown_by(role)).text().decode()
    assert shown_otherwise(text, shown_by(role)) == []
    assert "process_start_time_seconds" in text
    assert "_created" not in text
    if role != "worker":
        assert "metering_worker_partitions" not in text


@pytest.mark.parametrize("role", ROLES)
def test_a_role_tells_its_release(role: str) -> None:
    assert f'metering_build_info{{version="{release()}"}} 1.0' in MetricsText(shown_by(role)).text().decode()


def test_what_is_shown_otherwise_is_named() -> None:
    group = MetricGroup("worker")
    group.counter("metering_a_total", "A", ["kind"], values=("x",))
    text = MetricsText([group]).text().decode()
    assert 'metering_a_total{kind="x"} 0.0' in text
    other = MetricGroup("worker")
    other.counter("metering_a_total", "A", ["topic"])
    other.gauge("metering_b", "B")
    assert shown_otherwise(text, [other]) == [
        "metering_a_total has the labels {'kind'}",
        "metering_b is declared and not shown",
    ]
    assert shown_otherwise(text, []) == ["metering_a_total is shown and not declared for this role"]


def test_the_first_of_a_kind_is_an_increase() -> None:
    for role, series in (
        ("worker", 'metering_dead_letters_total{reason="unpriced"}'),
        ("worker", 'metering_differing_duplicates_total{kind="other_content"}'),
        ("worker", 'metering_money_records_total{outcome="payment mismatched"}'),
        ("sink", 'metering_sink_rows_total{kind="ledger"}'),
    ):
        assert series in MetricsText(shown_by(role)).text().decode(), series


def test_promtool_finds_nothing_to_say() -> None:
    promtool = program("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: `make promtool` fetches it where apt can")
    for role in ROLES:
        ran = subprocess.run(
            [promtool, "check", "metrics"],
            input=MetricsText(shown_by(role)).text(),
            capture_output=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b""), role

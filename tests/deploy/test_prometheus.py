"""Prometheus: every alert watches something that exists, and leads to what to do about it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline import telemetry
from tests.support.deploy import DEPLOY, ROOT, metrics_exposed, metrics_recorded, metrics_used, read_yaml
from tests.support.prometheus import program

CASES = sorted((Path(__file__).parent / "rules").glob("*.test.yml"))
CONFIGURATION = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
RULES: list[dict[str, Any]] = [
    rule
    for name in CONFIGURATION["rule_files"]
    for group in read_yaml(DEPLOY / "prometheus" / name)["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
SCRAPED = {job["job_name"]: job for job in CONFIGURATION["scrape_configs"]}
BOUND = re.compile(r'(\w+)_bucket\{le="([\d.]+)"\}')
ALERT_NAME = re.compile(r'alertname="(\w+)"')
SERVICES = read_yaml(ROOT / "docker-compose.yml")["services"]


RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
PARTS = ("Means", "Felt", "Look", "Do", "Over")
"""What each runbook says: what the alert means, who feels what, what to look at, what to do, and when it is over."""


def runbooks() -> dict[str, str]:
    """Return the text of each section that an alert may lead to, by its heading."""
    _, *sections = re.split(r"^### ", RUNBOOKS, flags=re.MULTILINE)
    return dict(section.split("\n", 1) for section in sections)


def cases_of(files: Iterable[Any]) -> tuple[set[str], set[str]]:
    """Return the alerts that cases of promtool expect to fire, and those that they expect to keep quiet."""
    fires: set[str] = set()
    quiet: set[str] = set()
    for case in (case for file in files for case in file["tests"]):
        for each in case.get("alert_rule_test", ()):
            (fires if each["exp_alerts"] else quiet).add(each["alertname"])
        for each in case.get("promql_expr_test", ()):
            if each["exp_samples"] and 'alertstate="firing"' in each["expr"]:
                fires.update(ALERT_NAME.findall(each["expr"]))
    return fires, quiet


def test_metrics_are_found_in_the_product() -> None:
    assert {
        "metering_events_total",
        "metering_unit_seconds_bucket",
        "metering_worker_partitions",
    } <= metrics_exposed()
    assert {"metering_http_requests_total", "metering_http_request_seconds_count"} <= metrics_exposed()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert metrics_used(rule["expr"]) <= metrics_exposed() | metrics_recorded()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"
    runbook = runbooks()[rule["alert"]]
    assert [part for part in PARTS if f"**{part}**" not in runbook] == []
    assert f"({rule['labels']['severity']})" in runbook


def test_every_runbook_is_an_alert_s() -> None:
    headings = re.findall(r"^### (.+)$", RUNBOOKS, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert set(headings) == {rule["alert"] for rule in ALERTS}


def test_the_thresholds_of_objectives_are_bounds_of_their_histograms() -> None:
    asked = [found for rule in RULES for found in BOUND.findall(rule["expr"])]
    assert {name for name, _ in asked} == {"metering_verdict_lag_seconds", "metering_sink_freshness_seconds"}
    bounds = {
        (family.name, sample.labels["le"])
        for metric in (telemetry.VERDICT_LAG, telemetry.SINK_FRESHNESS)
        for family in metric.collect()
        for sample in family.samples
        if "le" in sample.labels
    }
    assert set(asked) <= bounds


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("job", ["worker", "sink", "server"])
def test_every_role_is_scraped_where_it_listens(job: str) -> None:
    (found,) = SCRAPED[job]["dns_sd_configs"]
    assert found["names"] == [job]
    assert job in SERVICES
    assert f"127.0.0.1:{found['port']}/readyz" in SERVICES[job]["healthcheck"]["test"][-1]


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_must_not() -> None:
    fires, quiet = cases_of([read_yaml(path) for path in CASES])
    names = {rule["alert"] for rule in ALERTS}
    assert fires == names, f"no case fires them, or they are no alerts: {fires ^ names}"
    assert quiet == names, f"no case keeps them quiet, or they are no alerts: {quiet ^ names}"


def test_an_alert_without_a_case_is_seen() -> None:
    cases = [
        {
            "tests": [
                {
                    "promql_expr_test": [
                        {"expr": 'count(ALERTS{alertname="A", alertstate="firing"})', "exp_samples": [{}]},
                        {"expr": 'count(ALERTS{alertname="B", alertstate="pending"})', "exp_samples": [{}]},
                    ],
                    "alert_rule_test": [{"alertname": "B", "exp_alerts": []}],
                }
            ]
        }
    ]
    assert cases_of(cases) == ({"A"}, {"B"})


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.name.removesuffix(".test.yml"))
def test_alerts_fire_and_keep_quiet_as_they_say(cases: Path) -> None:
    promtool("test", "rules", str(cases))


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def promtool(*arguments: str) -> None:
    """Run promtool; fails the test with what it says, and skips it where there is none."""
    path = program("promtool")
    if path is None:
        pytest.skip("promtool is not installed: `make promtool` fetches it where apt can")
    ran = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr

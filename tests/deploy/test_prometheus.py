"""Prometheus: every alert watches something that exists, and leads to what to do about it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.deploy import DEPLOY, ROOT, metrics_exposed, metrics_used, read_yaml

HERE = Path(__file__).parent
RULES: list[dict[str, Any]] = [
    rule for group in read_yaml(DEPLOY / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]
]
SCRAPED = {
    job["job_name"]: job for job in read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
}
SERVICES = read_yaml(ROOT / "docker-compose.yml")["services"]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a Markdown file's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_metrics_are_found_in_the_product() -> None:
    assert {
        "metering_events_total",
        "metering_unit_seconds_bucket",
        "metering_worker_partitions",
    } <= metrics_exposed()
    assert {"metering_http_requests_total", "metering_http_request_seconds_count"} <= metrics_exposed()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_watches_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert metrics_used(rule["expr"]) <= metrics_exposed()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    document, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / document)


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("job", ["worker", "sink", "server"])
def test_every_role_is_scraped_where_it_listens(job: str) -> None:
    (found,) = SCRAPED[job]["dns_sd_configs"]
    assert found["names"] == [job]
    assert job in SERVICES
    assert f"127.0.0.1:{found['port']}/readyz" in SERVICES[job]["healthcheck"]["test"][-1]


def test_the_rules_do_as_they_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    ran = subprocess.run(
        [promtool, "test", "rules", str(HERE / "alerts.test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

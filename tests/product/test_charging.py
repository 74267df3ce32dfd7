"""A request from the gateway to the answers: charged once, whatever lies beside it in the topics."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline import topics
from pipeline.partitioning import partition_of
from tests.support.product.deployment import PARTITIONS, Deployment
from tests.support.product.finished import COST_INR, finished


def test_deleted_keys_and_bad_records_stop_nobody_and_are_counted(deployed: Deployment) -> None:
    """All of these were there before the parts started, and the other tests here find them working."""
    server = deployed.call("GET", "/metrics", None).text
    for topic in (topics.CATALOG, topics.KEYS, topics.ORDERS, topics.SESSIONS, topics.TOKENS):
        assert f'metering_bad_records_total{{topic="{topic}"}} 2.0' in server
    made = deployed.metering("promo", "create", "AFTER-NONSENSE", "--bonus-inr", "5")
    assert made["code"] == "AFTER-NONSENSE"


def test_one_request_is_charged_once_and_shows_everywhere(deployed: Deployment) -> None:
    org = "org-one"
    first = deployed.metering("org", "create", org, "--name", "One", "--email", "one@example.in")
    again = deployed.metering("org", "create", org, "--name", "One", "--email", "one@example.in")
    assert (first["signed_up"], again["signed_up"]) == (True, False)
    event = finished(org, "e1")
    wrong = (partition_of(org, PARTITIONS) + 1) % PARTITIONS
    deployed.publish(event, event)
    deployed.publish(event, partition=wrong)
    deployed.publish(finished(org, "e2"), partition=wrong)
    deployed.until(lambda: len(deployed.get("/me/activity/events", org)["events"]) == 2)
    billing = deployed.get("/me/billing", org)
    assert billing["balance_inr"] == 100 - 2 * COST_INR
    assert [(e["kind"], e["amount_inr"]) for e in billing["entries"]] == [("promo", 100)]
    activity = deployed.get("/me/activity", org)
    assert activity["totals"]["cost_inr"] == 2 * COST_INR
    assert activity["model_providers"][0]["provider"] == "krutrim"
    assert deployed.get("/me/usage", org)["totals"]["today"] == {"requests": 2, "tokens": 2 * 312}


def test_the_next_answer_holds_what_a_command_was_answered(deployed: Deployment) -> None:
    org = "org-credit"
    for n in range(1, 6):
        deployed.metering("credit", org, "--inr", "2.5", "--reason", f"number {n}")
        billing = deployed.get("/me/billing", org)
        assert billing["balance_inr"] == 2.5 * n
        assert billing["entries"][0]["note"] == f"number {n}"
        assert len(billing["entries"]) == n
    page = deployed.get("/me/billing?limit=2", org)
    rest = deployed.get(f"/me/billing?limit=200&before={page['next_before']}", org)
    assert [e["id"] for e in page["entries"] + rest["entries"]] == [e["id"] for e in billing["entries"]]


def test_an_unpriced_request_is_charged_when_redriven(deployed: Deployment, tmp_path: Path) -> None:
    org = "org-unpriced"
    deployed.publish(finished(org, "u1", model="brand-new", provider="maker"))
    catalog = {
        "rates": [
            {
                "model": "brand-new",
                "provider": "maker",
                "effective_from": "2026-01-01T00:00:00+05:30",
                "input_inr_per_mtok": "1000",
                "output_inr_per_mtok": "1000",
            }
        ]
    }
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(catalog))
    assert deployed.metering("redrive")["left"].get("unpriced") == 1
    assert deployed.metering("catalog", "apply", str(file))["published"] == 1
    assert deployed.metering("catalog", "apply", str(file))["published"] == 0
    assert deployed.metering("redrive")["redriven"] == 1
    assert deployed.metering("redrive")["redriven"] == 0
    assert deployed.get("/me/billing", org)["balance_inr"] == -0.312
    changed = file.read_text().replace('"1000"', '"2000"', 1)
    file.write_text(changed)
    deployed.metering("catalog", "apply", str(file), code=1)

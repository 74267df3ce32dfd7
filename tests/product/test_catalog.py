"""Rates and promo codes: announced, corrected, withdrawn and deleted by an operator."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.support.product.deployment import Deployment
from tests.support.product.finished import COST_INR, finished


def _in_minutes(minutes: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60 * minutes))


def _catalog(home: Path, start: str, inr: str) -> str:
    """Write a catalog file with a rate of krutrim-2 at krutrim from an instant on; return its path."""
    prices = {"input_inr_per_mtok": inr, "output_inr_per_mtok": inr}
    path = home / f"{inr}.json"
    route = {"model": "krutrim-2", "provider": "krutrim"}
    path.write_text(json.dumps({"rates": [{**route, "effective_from": start, **prices}]}))
    return str(path)


def _prices(deployed: Deployment) -> list[float]:
    routes = deployed.call("GET", "/v1/catalog", None).json()["routes"]
    return [
        r["input_inr_per_mtok"] for r in routes if (r["model"], r["provider"]) == ("krutrim-2", "krutrim")
    ]


def test_a_rate_that_is_announced_corrected_and_withdrawn_changes_no_cost(
    deployed: Deployment, tmp_path: Path
) -> None:
    org, ahead, start = "org-rates", _in_minutes(9), _in_minutes(30)
    deployed.publish({**finished(org, "before"), "time": ahead})
    for inr, published in (("100", 1), ("100", 0), ("70", 1)):
        applied = deployed.metering("catalog", "apply", _catalog(tmp_path, start, inr))
        assert applied["published"] == published
        deployed.publish({**finished(org, f"{inr} {published}"), "time": ahead})
    deployed.until(lambda: _prices(deployed) == [12.5, 70])
    deployed.metering("catalog", "apply", _catalog(tmp_path, _in_minutes(20), "1"), code=1)
    deployed.metering("catalog", "withdraw", "krutrim-2", "krutrim", start)
    deployed.metering("catalog", "withdraw", "krutrim-2", "krutrim", start, code=1)
    deployed.metering("catalog", "withdraw", "krutrim-2", "krutrim", "2026-01-01T00:00:00+05:30", code=1)
    deployed.publish({**finished(org, "after"), "time": ahead})
    deployed.until(lambda: len(deployed.get("/me/activity/events", org)["events"]) == 5)
    deployed.until(lambda: deployed.get("/me/activity/totals", org)["behind_ms"] == 0)
    assert {event["cost_inr"] for event in deployed.get("/me/activity/events", org)["events"]} == {COST_INR}
    deployed.until(lambda: _prices(deployed) == [12.5])
    assert deployed.runner.run(deployed.product.verify()).differences == []


def test_a_deleted_promo_code_is_not_valid_any_more(deployed: Deployment) -> None:
    org = "org-promo-deleted"
    deployed.metering("org", "create", org, "--name", "P", "--email", "p@example.in")
    deployed.metering("promo", "create", "Short-Lived", "--bonus-inr", "50")
    check = {"code": "short-lived"}
    assert deployed.call("POST", "/me/billing/promo/check", org, json=check).json()["bonus_inr"] == 50
    assert deployed.metering("promo", "delete", "SHORT-lived") == {"code": "SHORT-LIVED", "deleted": True}
    refused = deployed.call("POST", "/me/billing/promo/check", org, json=check)
    assert refused.json()["error"]["code"] == "promo_invalid"
    deployed.metering("promo", "delete", "SHORT-lived", code=1)

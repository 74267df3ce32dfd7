"""Statements, past balances and `metering verify`, while traffic goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline import ist
from pipeline.partitioning import partition_of
from tests.support.product.deployment import PARTITIONS, Deployment
from tests.support.product.finished import finished


def test_a_statement_and_past_balances_are_what_was_posted(deployed: Deployment, tmp_path: Path) -> None:
    org = "org-statement"
    month = ist.isoformat(time.time_ns() // 1_000_000)[:7]
    balances = {}
    for number in range(3):
        deployed.metering("credit", org, "--inr", "5", "--reason", f"credit {number}")
        deployed.publish(finished(org, f"statement-{number}"))
        deployed.until(lambda n=number: deployed.get("/me/activity", org)["totals"]["requests"] == n + 1)  # type: ignore[misc]
        balance_inr = deployed.get("/me/billing", org)["balance_inr"]
        balances[ist.isoformat(time.time_ns() // 1_000_000)] = balance_inr
        time.sleep(0.01)
    assert len(set(balances.values())) == 3
    for at, balance in balances.items():
        assert deployed.get(f"/me/balance?at={at}", org) == {"at": at, "balance_inr": balance}
    statement = deployed.get(f"/me/statements/{month}", org)
    assert statement["closing_inr"] == deployed.get("/me/billing", org)["balance_inr"]
    assert [entry["amount_inr"] for entry in statement["entries"]] == [5, 5, 5]
    assert sum(debit["requests"] for debit in statement["debits"]) == 3
    assert deployed.get("/me/statements", org)["statements"][0].items() <= statement.items()
    proof = tmp_path / "proof.ndjson"
    proof.write_bytes(deployed.call("GET", f"/me/statements/{month}/proof", org).content)
    proven = deployed.metering("prove", str(proof))
    assert (proven["holds"], proven["rows"], proven["signed_through"]) == (True, 6, None)
    assert proven["closing_inr"] == statement["closing_inr"]
    alone = [sys.executable, str(Path("deploy", "prove.py").resolve()), str(proof)]
    assert json.loads(subprocess.run(alone, capture_output=True, check=True, timeout=60).stdout)["holds"]
    proof.write_bytes(proof.read_bytes().replace(b",740,", b",741,", 1))
    assert deployed.metering("prove", str(proof), code=1)["why"].startswith("line ")


def test_the_books_agree_while_traffic_goes_on(deployed: Deployment) -> None:
    async def traffic() -> Any:
        async with AIOKafkaProducer(bootstrap_servers=deployed.product.servers) as producer:
            verifying = asyncio.create_task(deployed.product.verify())
            n = 0
            while not verifying.done():
                n += 1
                event = finished(f"org-live-{n % 7}", f"live-{n}")
                await producer.send_and_wait(
                    "metering.requests",
                    json.dumps(event).encode(),
                    partition=partition_of(event["subject"], PARTITIONS),
                )
            return verifying.result(), n

    report, published = deployed.runner.run(traffic())
    assert report.differences == []
    assert published > 10


def test_verify_goes_on_from_where_the_last_one_ended_and_sees_what_is_gone_since(
    deployed: Deployment,
) -> None:
    org = "org-checkpoint"

    def publish(*events: dict[str, Any]) -> None:
        counted = _requests(deployed, org) + len(events)
        deployed.publish(*events)
        deployed.until(lambda: _requests(deployed, org) == counted)

    publish(*(finished(org, f"c{n}") for n in range(5)))
    verify = deployed.product.verify
    before = deployed.runner.run(verify())
    again = deployed.runner.run(verify())
    assert (before.differences, again.differences, again.notes) == ([], [], [])
    assert again.rows_read == 0
    assert (again.orgs, again.requests) == (before.orgs, before.requests)
    publish(*(finished(org, f"d{n}") for n in range(3)))
    later = deployed.runner.run(verify())
    assert (later.differences, later.rows_read, later.requests) == ([], 3, before.requests + 3)
    whole = deployed.runner.run(verify(full=True))
    assert (whole.differences, whole.requests, whole.positions) == ([], later.requests, later.positions)
    assert whole.rows_read == whole.requests + whole.ledger_entries


def _requests(deployed: Deployment, org: str) -> int:
    """Return how many requests of an org the API counts today."""
    requests = deployed.get("/me/usage", org)["totals"]["today"]["requests"]
    assert isinstance(requests, int)
    return requests

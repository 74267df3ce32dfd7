"""Who is believed: commands are signed, a registered gateway signs its events, and each org sees its own alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
from aiokafka import AIOKafkaProducer

from pipeline import topics
from pipeline.accounts.commands import AnyCommand, Barrier, Credit, encode
from pipeline.gateway import Gateway
from pipeline.kafka.clients import producer
from pipeline.partitioning import partition_of
from tests.support.api.routes import (
    ASKS_OWNER,
    BY_ID,
    FILES_OF_AN_ORG,
    OF_AN_ORG,
    OPERATORS,
    PUBLIC,
    SEARCHES,
    SIGNED_BY_RAZORPAY,
    TEXT,
    THEIRS,
    WITHOUT_OWNER,
)
from tests.support.product.deployment import PARTITIONS, Deployment
from tests.support.product.finished import COST_INR, finished


def test_a_credit_that_whoever_may_write_the_topic_makes_up_is_refused_and_counted(
    deployed: Deployment,
) -> None:
    """The barrier after it would never be answered by a worker that waits for what the forged one names."""
    org, worker = "org_forged", deployed.product.workers[0]
    partition = partition_of(org, PARTITIONS)
    forged: list[AnyCommand] = [
        Credit("forged", org, 10**15, "a gift", "f"),
        Barrier("held-up", catalog_offset=2**60),
    ]

    async def forge() -> None:
        writer = producer(deployed.product.connection)
        await writer.start()
        for command in forged:
            await writer.send_and_wait(topics.BILLING, encode(command), partition=partition)
        await writer.stop()

    def refused() -> bool:
        said = deployed.status(worker).text
        return 'metering_dead_letters_total{reason="unauthenticated"} 2.0' in said

    deployed.runner.run(forge())
    deployed.until(refused)
    assert deployed.get("/me/billing", org)["balance_inr"] == 0


def test_the_sources_of_a_registered_gateway_are_its_own(deployed: Deployment, tmp_path: Path) -> None:
    """Somebody else's event under its source is a dead letter, so none of its own counts as a duplicate of that."""
    org, worker = "org-bound", deployed.product.workers[0]
    made = deployed.metering("gateway", "create", "bound-1")
    assert deployed.metering("gateway", "list") == [{"gateway": "bound-1", "accepted": [1]}]

    async def send(*, after_another: bool) -> None:
        async with Gateway(
            kafka_url=deployed.product.broker.url, node="bound-1", spool_dir=tmp_path, key=made["key"]
        ) as gateway:
            if after_another:
                forged = {**finished(org, "forged"), "source": gateway.source, "sequence": "0" * 19 + "9"}
                async with AIOKafkaProducer(bootstrap_servers=deployed.product.servers) as somebody:
                    where = partition_of(org, PARTITIONS)
                    await somebody.send_and_wait(
                        topics.REQUESTS, json.dumps(forged).encode(), partition=where
                    )
            await gateway.publish({name: finished(org, "")[name] for name in ("subject", "time", "data")})

    def refused() -> bool:
        said = deployed.status(worker).text
        return 'metering_dead_letters_total{reason="unsigned"} 1.0' in said

    deployed.runner.run(send(after_another=True))
    deployed.until(refused)
    deployed.runner.run(send(after_another=False))
    deployed.until(lambda: deployed.get("/me/billing", org)["balance_inr"] == -2 * COST_INR)
    assert deployed.metering("gateway", "remove", "bound-1")["registered"] is False


def _said(answer: httpx2.Response) -> str:
    """Return what an answer says, its own id and the moment that it is as of aside."""
    said = answer.text.replace(answer.headers["x-request-id"], "")
    return re.sub(r'"(as_of|through)":"[^"]+"', "", said)


def test_no_answer_of_the_owners_holds_another_orgs_data(deployed: Deployment) -> None:
    """The routes that ask the accounts' owners, with two orgs; the others are in test_api_contract.py."""
    for org in ("org-mine", THEIRS):
        deployed.metering("credit", org, "--inr", "7", "--reason", f"{org}-note")
        made = deployed.call("POST", "/me/keys", org, json={"name": f"{org}-name"})
        assert made.status_code == 200
    theirs = deployed.get("/me/keys", THEIRS)["keys"][0]["key_id"]
    token = deployed.call("POST", "/me/tokens", "org-mine", json={"name": "reader"}).json()["token"]
    reader = {"Authorization": f"Bearer {token}"}
    for tries in (*ASKS_OWNER.values(), *WITHOUT_OWNER.values()):
        for method, path, body in tries:
            asked = path.format(key_id=theirs)
            answer = deployed.call(method, asked, "org-mine", json=body)
            assert answer.status_code in (200, 400, 404, 503), f"{method} {asked}: {answer.text}"
            shown = answer.text.replace(theirs, "") if theirs in asked else answer.text
            assert THEIRS not in shown, asked
            assert theirs not in shown, asked
            assert deployed.call(method, asked, None, json=body).status_code == 401, asked
            read = deployed.call(method, asked, None, headers=reader, json=body)
            if method == "GET":
                assert (read.status_code, _said(read)) == (answer.status_code, _said(answer)), asked
            else:
                assert (read.status_code, read.json()["error"]["code"]) == (403, "forbidden"), asked
    stolen = deployed.call("PATCH", f"/me/keys/{theirs}", "org-mine", json={"revoked": True})
    absent = deployed.call("PATCH", "/me/keys/key_none", "org-mine", json={"revoked": True})
    assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "not_found")
    assert stolen.json()["error"]["message"] == absent.json()["error"]["message"]
    assert deployed.get("/me/keys", THEIRS)["keys"][0]["revoked"] is False
    for path in OPERATORS:
        assert deployed.call("POST", path, "org-mine").status_code == 404


def test_every_route_of_the_product_is_classified(deployed: Deployment) -> None:
    """A new route fails here until somebody has said how it is tried with two orgs."""
    paths = set(deployed.call("GET", "/openapi.json", None).json()["paths"])
    described = OF_AN_ORG.keys() | FILES_OF_AN_ORG.keys() | BY_ID | SEARCHES.keys() | PUBLIC | TEXT
    assert paths == described | ASKS_OWNER.keys() | WITHOUT_OWNER.keys() | SIGNED_BY_RAZORPAY

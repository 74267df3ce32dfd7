"""The whole product as a user has it: real processes, HTTP, and the command line.

One deployment serves all tests here; each test has orgs of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka import AIOKafkaProducer

from pipeline import ist, topics
from pipeline.accounts.commands import AnyCommand, Barrier, Credit, encode
from pipeline.gateway import Gateway
from pipeline.kafka.admin import ensure_topics, partitions_of
from pipeline.kafka.clients import producer
from pipeline.local.broker import Broker
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.status import brokers
from pipeline.status.found import Backlog, KafkaFound, LastVerify
from pipeline.telemetry import shown_by
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
from tests.support.deploy import shown_otherwise
from tests.support.formatted import new_broker
from tests.support.product.deployment import CATALOG, PARTITIONS, Deployment
from tests.support.product.processes import product

FOLLOWED = (
    *(topics.CATALOG, topics.PROMOS, topics.KEYS, topics.ORDERS, topics.VERDICTS),
    *(topics.SESSIONS, topics.TOKENS, topics.CHECKPOINTS_STATE),
)

COST_INR = 0.0075
"""200 prompt tokens, 64 of them cached, and 112 completion tokens of krutrim-2 at krutrim."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A broker, a worker and a server, with the shipped catalog, which log as JSON.

    Before they start, each topic that they follow holds a deleted key and a record that nobody understands.
    """
    home = tmp_path_factory.mktemp("product")
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as environment:
        environment.setenv("METERING_LOG_FORMAT", "json")
        broker = new_broker(home / "kafka")
        runner.run(broker.start())
        runner.run(_spoil(broker))
        running = product(broker, home, workers=1, partitions=PARTITIONS)
        try:
            deployment = Deployment(runner.run(running.__aenter__()), runner)
            deployment.metering("catalog", "apply", str(CATALOG))
            yield deployment
        finally:
            runner.run(running.__aexit__(None, None, None))
            runner.run(broker.stop())


async def _spoil(broker: Broker) -> None:
    await ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS))
    writer = producer(broker.connection)
    await writer.start()
    try:
        for topic in FOLLOWED:
            for value in (b"{", None):
                await writer.send_and_wait(topic, value, key=b"spoilt", partition=0)
            await writer.send_and_wait(topic, b"nonsense", key=b"nonsense", partition=0)
    finally:
        await writer.stop()


def _event(org: str, event_id: str, **changes: Any) -> dict[str, Any]:
    data = {
        "key_id": f"{org}-key",
        "tier": "standard",
        "byok": False,
        "model": "krutrim-2",
        "provider": "krutrim",
        "status": 200,
        "latency_ms": 740,
        "usage": {
            "prompt_tokens": 200,
            "completion_tokens": 112,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
        **changes,
    }
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "specversion": "1.0",
        "type": "bharatrouter.request.completed.v1",
        "source": "gateway/test",
        "id": event_id,
        "subject": org,
        "time": now,
        "data": data,
    }


def test_a_credit_that_whoever_may_write_the_topic_makes_up_is_refused_and_counted(
    deployed: Deployment,
) -> None:
    """The barrier after it would never be answered by a worker that waits for what the forged one names."""
    org, worker = "org_forged", deployed.product.workers[0].environment["METERING_WORKER_PORT"]
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
        said = httpx2.get(
            f"http://127.0.0.1:{worker}/metrics", trust_env=False, verify=False, timeout=20
        ).text
        return 'metering_dead_letters_total{reason="unauthenticated"} 2.0' in said

    deployed.runner.run(forge())
    deployed.until(refused)
    assert deployed.get("/me/billing", org)["balance_inr"] == 0


def test_the_sources_of_a_registered_gateway_are_its_own(deployed: Deployment, tmp_path: Path) -> None:
    """Somebody else's event under its source is a dead letter, so none of its own counts as a duplicate of that."""
    org, worker = "org-bound", deployed.product.workers[0].environment["METERING_WORKER_PORT"]
    made = deployed.metering("gateway", "create", "bound-1")
    assert deployed.metering("gateway", "list") == [{"gateway": "bound-1", "accepted": [1]}]

    async def send(*, after_another: bool) -> None:
        async with Gateway(
            kafka_url=deployed.product.broker.url, node="bound-1", spool_dir=tmp_path, key=made["key"]
        ) as gateway:
            if after_another:
                forged = {**_event(org, "forged"), "source": gateway.source, "sequence": "0" * 19 + "9"}
                async with AIOKafkaProducer(bootstrap_servers=deployed.product.servers) as somebody:
                    where = partition_of(org, PARTITIONS)
                    await somebody.send_and_wait(
                        topics.REQUESTS, json.dumps(forged).encode(), partition=where
                    )
            await gateway.publish({name: _event(org, "")[name] for name in ("subject", "time", "data")})

    def refused() -> bool:
        said = httpx2.get(
            f"http://127.0.0.1:{worker}/metrics", trust_env=False, verify=False, timeout=20
        ).text
        return 'metering_dead_letters_total{reason="unsigned"} 1.0' in said

    deployed.runner.run(send(after_another=True))
    deployed.until(refused)
    deployed.runner.run(send(after_another=False))
    deployed.until(lambda: deployed.get("/me/billing", org)["balance_inr"] == -2 * COST_INR)
    assert deployed.metering("gateway", "remove", "bound-1")["registered"] is False


def test_deleted_keys_and_bad_records_stop_nobody_and_are_counted(deployed: Deployment) -> None:
    """All of these were there before the parts started, and the other tests here find them working."""
    server = deployed.call("GET", "/metrics", None).text
    for topic in (topics.CATALOG, topics.KEYS, topics.ORDERS, topics.SESSIONS, topics.TOKENS):
        assert f'metering_bad_records_total{{topic="{topic}"}} 2.0' in server
    made = deployed.metering("promo", "create", "AFTER-NONSENSE", "--bonus-inr", "5")
    assert made["code"] == "AFTER-NONSENSE"


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
    deployed.publish({**_event(org, "before"), "time": ahead})
    for inr, published in (("100", 1), ("100", 0), ("70", 1)):
        applied = deployed.metering("catalog", "apply", _catalog(tmp_path, start, inr))
        assert applied["published"] == published
        deployed.publish({**_event(org, f"{inr} {published}"), "time": ahead})
    deployed.until(lambda: _prices(deployed) == [12.5, 70])
    deployed.metering("catalog", "apply", _catalog(tmp_path, _in_minutes(20), "1"), code=1)
    deployed.metering("catalog", "withdraw", "krutrim-2", "krutrim", start)
    deployed.metering("catalog", "withdraw", "krutrim-2", "krutrim", start, code=1)
    deployed.metering("catalog", "withdraw", "krutrim-2", "krutrim", "2026-01-01T00:00:00+05:30", code=1)
    deployed.publish({**_event(org, "after"), "time": ahead})
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


def test_one_request_is_charged_once_and_shows_everywhere(deployed: Deployment) -> None:
    org = "org-one"
    first = deployed.metering("org", "create", org, "--name", "One", "--email", "one@example.in")
    again = deployed.metering("org", "create", org, "--name", "One", "--email", "one@example.in")
    assert (first["signed_up"], again["signed_up"]) == (True, False)
    event = _event(org, "e1")
    wrong = (partition_of(org, PARTITIONS) + 1) % PARTITIONS
    deployed.publish(event, event)
    deployed.publish(event, partition=wrong)
    deployed.publish(_event(org, "e2"), partition=wrong)
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


def test_keys_from_making_to_revoking(deployed: Deployment) -> None:
    org = "org-keys"
    body = {"name": "first", "budget_inr": 12.5, "expires_days": 30}
    made = deployed.call("POST", "/me/keys", org, json=body, headers={"Idempotency-Key": "k-1"})
    assert made.status_code == 200, made.text
    same = deployed.call("POST", "/me/keys", org, json=body, headers={"Idempotency-Key": "k-1"})
    assert same.json() == made.json()
    other = deployed.call("POST", "/me/keys", org, json={"name": "x"}, headers={"Idempotency-Key": "k-1"})
    assert other.json()["error"]["param"] == "Idempotency-Key"
    key_id, api_key = made.json()["key_id"], made.json()["key"]
    assert api_key.startswith("br-")
    assert len(api_key) == 35
    assert deployed.call("POST", "/me/keys", org, json={"name": "first"}).json()["error"]["code"] == (
        "duplicate_key_name"
    )
    deployed.publish(_event(org, "k1", key_id=key_id))
    deployed.until(lambda: deployed.get("/me/keys", org)["keys"][0]["spent_this_month_inr"] == COST_INR)
    renamed = deployed.call("PATCH", f"/me/keys/{key_id}", org, json={"name": "renamed", "budget_inr": None})
    assert (renamed.json()["name"], renamed.json()["budget_inr"]) == ("renamed", None)
    deployed.until(lambda: deployed.get("/me/activity", org)["totals"]["requests"] == 1)
    assert deployed.get("/me/activity", org)["top_keys"][0]["key_name"] == "renamed"
    revoked = deployed.call("PATCH", f"/me/keys/{key_id}", org, json={"revoked": True})
    assert revoked.json()["revoked"] is True
    assert api_key not in deployed.product.all_words()
    trial = deployed.call("POST", "/me/keys", org, json={"name": "t", "tier": "trial", "rpm_limit": 61})
    assert trial.json()["error"]["code"] == "trial_ceiling"
    for n in range(5):
        assert deployed.call("POST", "/me/keys", org, json={"name": f"n{n}"}).status_code == 200
    sixth = deployed.call("POST", "/me/keys", org, json={"name": "n6"})
    assert sixth.json()["error"]["code"] == "key_limit_reached"


def test_a_token_from_making_to_revoking(deployed: Deployment) -> None:
    org, body = "org-tokens", {"name": "books", "scope": "read", "expires_days": 30}
    made = deployed.call("POST", "/me/tokens", org, json=body, headers={"Idempotency-Key": "t-1"}).json()
    same = deployed.call("POST", "/me/tokens", org, json=body, headers={"Idempotency-Key": "t-1"})
    assert same.json() == made
    reader = {"Authorization": f"Bearer {made['token']}"}
    assert deployed.call("GET", "/me/usage", None, headers=reader).status_code == 200
    revoked = deployed.call("DELETE", f"/me/tokens/{made['id']}", org)
    assert revoked.json()["revoked"] is True
    told = deployed.call("GET", "/me/usage", None, headers=reader)
    assert (told.status_code, told.json()["error"]["code"]) == (401, "invalid_token")
    assert [each["revoked"] for each in deployed.get("/me/tokens", org)["tokens"]] == [True]
    assert made["token"] not in deployed.product.all_words()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/me/keys", {"name": "x"}),
        ("PATCH", "/me/keys/key_1", {"name": "x"}),
        ("POST", "/me/tokens", {"name": "x"}),
        ("DELETE", "/me/tokens/tok_1", None),
    ],
)
def test_a_member_may_not_change_keys_and_tokens(
    deployed: Deployment, method: str, path: str, body: Any
) -> None:
    answer = deployed.call(method, path, "org-roles", role="member", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_a_session_is_exchanged_once_and_an_operator_ends_those_of_an_org(deployed: Deployment) -> None:
    org = "org_signed_out"
    token, url = deployed.metering("session", "--org", org)["token"], deployed.product.http_url

    def status(bearer: str) -> int:
        headers = {"Authorization": f"Bearer {bearer}"}
        return httpx2.get(
            f"{url}/me/usage", headers=headers, timeout=20, trust_env=False, verify=False
        ).status_code

    assert status(token) == 200
    with httpx2.Client(base_url=url, timeout=20, trust_env=False, verify=False) as browser:
        entered = browser.get("/login", params={"token": token})
        assert (entered.status_code, entered.headers["location"]) == (303, "/overview")
        inside = browser.cookies["br_session"]
        assert browser.get("/billing").status_code == 200
        assert (
            httpx2.get(
                f"{url}/login", params={"token": token}, trust_env=False, verify=False, timeout=20
            ).status_code
            == 401
        )
        assert (status(token), status(inside)) == (401, 200)
        reader = deployed.call("POST", "/me/tokens", org, json={"name": "reader"}).json()["token"]
        others = deployed.call("POST", "/me/tokens", "org_stays", json={"name": "reader"}).json()["token"]
        assert deployed.metering("session", "revoke", "--org", org)["tokens_revoked"] == 1
        deployed.until(lambda: status(inside) == status(reader) == 401)
        assert status(others) == 200
        assert browser.get("/billing").status_code == 401
        # Others stay signed in, and who signs in again is in, until they sign out.
        assert deployed.call("GET", "/me/usage", "org_stays").status_code == 200
        again = deployed.metering("session", "--org", org, "--role", "member")["token"]
        assert browser.post("/login", data={"token": again}).status_code == 303
        inside = browser.cookies["br_session"]
        assert status(inside) == 200
        assert browser.post("/logout").status_code == 303
        assert status(inside) == 401
    deployed.metering("session", code=2)


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


def test_a_statement_and_past_balances_are_what_was_posted(deployed: Deployment, tmp_path: Path) -> None:
    org = "org-statement"
    month = ist.isoformat(time.time_ns() // 1_000_000)[:7]
    balances = {}
    for number in range(3):
        deployed.metering("credit", org, "--inr", "5", "--reason", f"credit {number}")
        deployed.publish(_event(org, f"statement-{number}"))
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


def test_an_unpriced_request_is_charged_when_redriven(deployed: Deployment, tmp_path: Path) -> None:
    org = "org-unpriced"
    deployed.publish(_event(org, "u1", model="brand-new", provider="maker"))
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


def test_the_books_agree_while_traffic_goes_on(deployed: Deployment) -> None:
    async def traffic() -> Any:
        async with AIOKafkaProducer(bootstrap_servers=deployed.product.servers) as producer:
            verifying = asyncio.create_task(deployed.product.verify())
            n = 0
            while not verifying.done():
                n += 1
                event = _event(f"org-live-{n % 7}", f"live-{n}")
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

    publish(*(_event(org, f"c{n}") for n in range(5)))
    verify = deployed.product.verify
    before = deployed.runner.run(verify())
    again = deployed.runner.run(verify())
    assert (before.differences, again.differences, again.notes) == ([], [], [])
    assert again.rows_read == 0
    assert (again.orgs, again.requests) == (before.orgs, before.requests)
    publish(*(_event(org, f"d{n}") for n in range(3)))
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


def test_every_role_is_ready_and_nothing_is_behind_by_the_brokers_own_ends(deployed: Deployment) -> None:
    worker, server = deployed.product.workers[0], deployed.product.server
    assert server is not None

    def lags(url: str, part: str) -> list[str]:
        lines = httpx2.get(f"{url}/metrics", trust_env=False, verify=False, timeout=20).text.splitlines()
        return [line for line in lines if line.startswith(f'metering_lag_offsets{{part="{part}"')]

    def is_done() -> bool:
        # Markers of transactions, which end what each topic has, are no work that waits.
        found = [lags(role.status_url, part) for part, role in parts.items()]
        return list(map(len, found)) == [3 * PARTITIONS, PARTITIONS, PARTITIONS, 1] and all(
            line.endswith(" 0.0") for lines in found for line in lines
        )

    parts = {"worker": worker, "sink": server, "mail": server, "notary": server}
    deployed.until(is_done)
    for role in (worker, server):
        text = httpx2.get(f"{role.status_url}/metrics", trust_env=False, verify=False, timeout=20).text
        assert shown_otherwise(text, shown_by(role.command)) == []
        for path in ("/livez", "/readyz", "/healthz"):
            answer = httpx2.get(f"{role.status_url}{path}", trust_env=False, verify=False, timeout=20)
            assert answer.status_code == 200, answer.text
    assert (
        httpx2.get(f"{server.status_url}/readyz", trust_env=False, verify=False, timeout=20).json()[
            "routes_away"
        ]
        == []
    )


def test_prometheus_learns_of_lags_replicas_and_what_the_last_verify_came_to(deployed: Deployment) -> None:
    worker, server = deployed.product.workers[0], deployed.product.server
    assert server is not None

    def value(url: str, name: str) -> float:
        text = httpx2.get(f"{url}/metrics", trust_env=False, verify=False, timeout=20).text
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.removeprefix(f"{name} "))

    assert value(worker.status_url, "metering_verdict_lag_seconds_count") > 0
    assert value(server.status_url, "metering_sink_freshness_seconds_count") > 0
    partitions = sum(partitions_of(each, Settings(partitions=PARTITIONS)) for each in topics.TOPICS)
    assert value(server.status_url, 'metering_kafka_partitions{replicas="in sync"}') == partitions
    assert value(server.status_url, 'metering_kafka_partitions{replicas="leaderless"}') == 0
    before_s = time.time()
    assert deployed.runner.run(deployed.product.verify()).differences == []
    deployed.until(
        lambda: value(server.status_url, "metering_verified_timestamp_seconds") >= before_s - 0.001
    )
    assert value(server.status_url, "metering_verify_differences") == 0


def test_a_request_is_found_in_the_workers_log_by_the_id_in_its_answer(deployed: Deployment) -> None:
    mine = {"X-Request-Id": "Trace-0001"}
    made = deployed.call("POST", "/me/keys", "org-traced", json={"name": "traced"}, headers=mine)
    assert (made.status_code, made.headers["x-request-id"]) == (200, "Trace-0001")
    again = deployed.call("POST", "/me/keys", "org-traced", json={"name": "traced"}, headers=mine)
    assert again.json()["error"]["request_id"] == "Trace-0001"

    def traced() -> list[str]:
        lines = map(json.loads, deployed.product.workers[0].log.read_text().splitlines())
        return [line["message"] for line in lines if line.get("request_id") == "Trace-0001"]

    partition = partition_of("org-traced", PARTITIONS)
    deployed.until(lambda: len(traced()) == 2)
    assert traced() == [
        f"partition {partition}: the command create_key was carried out",
        f"partition {partition}: the command create_key was refused: duplicate_key_name",
    ]
    assert deployed.product.server is not None
    said = [json.loads(line) for line in deployed.product.server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in said)


def test_the_screen_of_the_deployment_shows_what_was_sent(deployed: Deployment) -> None:
    sent, kafka = 7, deployed.product.connection
    before = deployed.metering("status", "--json")
    assert (before["is_well"], before["unknown"]) == (True, {}), before
    conditions = {name: part["condition"] for name, part in before["parts"].items()}
    assert conditions.pop("books") in ("ok", "off")
    assert conditions == dict.fromkeys(
        ("kafka", "clickhouse", "worker", "sink", "mailer", "webhooks", "notary", "server"), "ok"
    )
    start_ms = time.time_ns() // 1_000_000
    deployed.publish(*(_event("org-screen", f"screen-{number}") for number in range(sent)))
    deployed.publish({**_event("org-screen", "screen-bad"), "time": "never"})

    def looked() -> KafkaFound:
        found = deployed.runner.run(brokers.look(kafka, "metering", start_ms + brokers.MINUTE_MS))
        assert isinstance(found, KafkaFound)
        return found

    deployed.until(lambda: looked().posted == sent)
    deployed.until(lambda: deployed.get("/me/activity", "org-screen")["totals"]["requests"] == sent)

    def is_done(found: KafkaFound) -> bool:
        return all(isinstance(each, Backlog) and each.total == 0 for each in found.backlogs.values())

    deployed.until(lambda: is_done(looked()))
    after = deployed.metering("status", "--json")
    assert after["is_well"], after
    assert after["debited_today"]["nano"] - before["debited_today"]["nano"] == sent * 7_500_000
    letters = [each["dead_letters"]["by_reason"].get("invalid", 0) for each in (before, after)]
    assert letters[1] - letters[0] == 1
    assert after["open_payments"] == {"unpaid_orders": 0, "is_whole": True}
    assert after["lag"]["worker"]["by_partition"].keys() == {str(each) for each in range(PARTITIONS)}
    deployed.runner.run(deployed.product.verify())
    verified = looked().verified
    assert isinstance(verified, LastVerify)
    assert (verified.differences, verified.ended_ms >= start_ms) == (0, True)

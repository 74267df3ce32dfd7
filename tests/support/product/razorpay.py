"""The product with a stand-in for Razorpay beside it, for tests of billing.

Owns: starting both as processes, and what a test does to them: as a member, as a payer, as Razorpay.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.accounts.commands import CommandRefusal, SignUp
from pipeline.api.http.sessions import Role, issue
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.local.broker import Broker
from pipeline.razorpay.signatures import sign
from pipeline.settings import Settings
from tests.support import ports
from tests.support.builders import COMMAND_KEYS, event, packed, time_text
from tests.support.formatted import new_broker
from tests.support.product.processes import SESSION_SECRET, Product

KEY_ID, KEY_SECRET = "rzp_test_1", "key-secret-of-the-tests"
WEBHOOK_SECRET, OLD_WEBHOOK_SECRET = (
    "new-webhook-secret-of-the-tests-0123",
    "old-webhook-secret-of-the-tests-0123",
)
ADDRESS = {
    "name": "Asha Stores",
    "line1": "12 MG Road",
    "line2": "",
    "city": "Bengaluru",
    "state": "Karnataka",
    "pin": "560001",
    "gstin": "29ABCDE1234F1Z5",
}
PARTITIONS = 2
SIGN_UP_LIMIT_S = 30.0


@dataclass
class Shop:
    """The running product and Razorpay's stand-in."""

    product: Product
    http: httpx2.Client
    control: httpx2.Client
    environment: dict[str, str]

    def call(
        self, method: str, path: str, org: str, body: object = None, role: Role = "owner", **headers: str
    ) -> tuple[int, Any]:
        """Call the API as a member of an org; status and JSON, its numbers exact."""
        token = issue(SESSION_SECRET, org, role, f"someone@{org}.example", int(time.time() * 1000))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.request(
            method, path, json=body, headers={"Authorization": f"Bearer {token}", **named}
        )
        return answer.status_code, json.loads(answer.text, parse_float=Decimal)

    def get(self, path: str, org: str) -> Any:
        """GET what has to be there."""
        status, body = self.call("GET", path, org)
        assert status == 200, body
        return body

    def put(self, path: str, org: str, body: object) -> Any:
        """PUT what has to be taken."""
        status, answer = self.call("PUT", path, org, body)
        assert status == 200, answer
        return answer

    def post(self, path: str, org: str, body: object, **headers: str) -> Any:
        """POST what has to be taken."""
        status, answer = self.call("POST", path, org, body, "owner", **headers)
        assert status == 200, answer
        return answer

    def refused(self, method: str, path: str, org: str, body: object = None, role: Role = "owner") -> str:
        """Call what has to be refused; `status code`, and the parameter where one is named."""
        status, answer = self.call(method, path, org, body, role)
        error = answer["error"]
        return " ".join(str(part) for part in (status, error["code"], error.get("param")) if part is not None)

    def metering(
        self, *arguments: str, answer_limit_s: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line; it waits for an answer for as long as the product does, or for less."""
        program, environment = "pipeline", self.environment
        if answer_limit_s is not None:
            program = "tests.support.product.impatient"
            environment = {**environment, "METERING_TEST_ANSWER_SECONDS": str(answer_limit_s)}
        return subprocess.run(
            [sys.executable, "-m", program, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def signed_up(self, org: str) -> str:
        """Return an org that is signed up and has an address."""
        # Not by the command line, whose start costs a second of CPU, and in a thread, as a test may have a loop of its own.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, _sign_up(self.product, org)).result()
        self.put("/me/billing/address", org, ADDRESS)
        return org

    def ordered(self, org: str, rupees: int = 500, **more: object) -> str:
        """Return a new order of an org."""
        order_id: str = self.post("/me/billing/orders", org, {"amount_inr": rupees, **more})["order_id"]
        return order_id

    def pay(self, order_id: str | None, **how: object) -> Any:
        """Pay at Razorpay; the callback and the payment."""
        answer = self.control.post("/control/pay", json={"order_id": order_id, **how})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def at_razorpay(self, path: str, body: object = None) -> Any:
        """Do something at the stand-in."""
        answer = self.control.post(path, json=body or {}, auth=(KEY_ID, KEY_SECRET))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def hooks(self, **manners: object) -> None:
        """Say how webhooks are delivered from now on."""
        plain = {"lost": [], "copies": 1, "reversed": False, "delay_s": 0.0, "retry_s": 0.2}
        self.at_razorpay("/control/webhooks", {**plain, **manners})

    def webhook(self, event: object, secret: str = WEBHOOK_SECRET, signature: str | None = None) -> int:
        """Send a webhook as Razorpay would; the status."""
        body = json.dumps(event).encode()
        headers = {"X-Razorpay-Signature": signature if signature is not None else sign(body, secret)}
        return self.http.post("/webhooks/razorpay", content=body, headers=headers).status_code

    def payment_of(self, order_id: str) -> Any:
        """Return the captured payment of an order, as Razorpay has it."""
        payments = self.asked(f"/v1/orders/{order_id}/payments")["items"]
        [payment] = [payment for payment in payments if payment["status"] == "captured"]
        return payment

    def refund(self, payment_id: str, paise: int) -> Any:
        """Refund a part of a payment at Razorpay."""
        return self.at_razorpay(f"/v1/payments/{payment_id}/refund", {"amount": paise})

    def tell_captured(self, order: Any) -> int:
        """Send the webhook of a paid order's capture; the status."""
        payload = {"payment": {"entity": self.payment_of(order["id"])}, "order": {"entity": order}}
        return self.webhook({"entity": "event", "event": "payment.captured", "payload": payload})

    def orders(self, org: str) -> list[Any]:
        """Return an org's orders, as Razorpay has them."""
        return [o for o in self.asked("/v1/orders?count=100")["items"] if o["notes"]["org"] == org]

    def asked(self, path: str) -> Any:
        """Return what Razorpay's API answers."""
        answer = self.control.get(path, auth=(KEY_ID, KEY_SECRET))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def entries(self, org: str, kind: str | None = None) -> list[dict[str, Any]]:
        """Return an org's ledger, newest first."""
        entries = self.get("/me/billing?limit=200", org)["entries"]
        return [entry for entry in entries if kind in (None, entry["kind"])]

    def balance(self, org: str) -> Decimal:
        """Return an org's balance in rupees."""
        return Decimal(self.get("/me/billing", org)["balance_inr"])

    def until(self, holds: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
        """Wait until something holds. Raises AssertionError with the logs."""
        deadline = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}\n{self.product.all_words()}"
            time.sleep(0.1)

    def mails(self, org: str) -> list[dict[str, Any]]:
        """Return the mails ordered for an org so far."""
        return asyncio.run(_records_of("metering.mail", self.product.servers, org))

    def org_webhooks(self, org: str) -> list[dict[str, Any]]:
        """Return the webhooks ordered for an org so far."""
        return asyncio.run(_records_of("metering.webhooks", self.product.servers, org))

    def request(self, org: str, key_id: str, *event_ids: str) -> None:
        """Publish finished requests of a key, as a gateway does; each costs 0.0075 rupees by the shipped catalog."""
        now = time_text(int(time.time() * 1000))
        self.publish(org, *(event(n, subject=org, time=now, data__key_id=key_id) for n in event_ids))

    def publish(self, org: str, *events: dict[str, Any]) -> None:
        """Publish events of an org, as a gateway does."""
        asyncio.run(_publish(self.product.servers, org, packed(*events)))


async def _publish(servers: str, org: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait("metering.requests", value, key=org.encode())


async def _sign_up(product: Product, org: str) -> None:
    client = CommandClient(product.connection, COMMAND_KEYS)
    await client.start()
    try:
        answer = await client.send(
            SignUp(new_command_id(), org, org, f"owner@{org}.example"), SIGN_UP_LIMIT_S
        )
        assert not isinstance(answer, CommandRefusal), answer
    finally:
        await client.stop()


async def _records_of(topic: str, servers: str, org: str) -> list[dict[str, Any]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    found = []
    try:
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                for records in (await consumer.getmany(place, timeout_ms=300)).values():
                    found += [json.loads(record.value) for record in records if record.key == org.encode()]
    finally:
        await consumer.stop()
    return found


@contextmanager
def shop(
    make: Callable[[Broker, Path], Product] = Product,
    before: Callable[[KafkaConnection], Coroutine[Any, Any, None]] | None = None,
    /,
    **environment: str,
) -> Iterator[Shop]:
    """Run the product that `make` returns for a broker and a directory, and the stand-in with it.

    `before` is done with the broker once it has the topics, before anything reads them.
    """
    home = Path(tempfile.mkdtemp(prefix="metering-shop-"))
    broker = new_broker(home / "kafka")
    port = ports.free()
    http_url = f"http://127.0.0.1:{port}"
    given = {
        "METERING_RAZORPAY_KEY_ID": KEY_ID,
        "METERING_RAZORPAY_KEY_SECRET": KEY_SECRET,
        "METERING_RAZORPAY_WEBHOOK_SECRET": f"{WEBHOOK_SECRET},{OLD_WEBHOOK_SECRET}",
        "METERING_RAZORPAY_URL": f"{http_url}/v1",
        "METERING_CHECKOUT_URL": f"{http_url}/v1/checkout.js",
        **environment,
    }
    product = make(broker, home)
    control = httpx2.Client(base_url=http_url, trust_env=False, timeout=10)
    razorpay: subprocess.Popen[bytes] | None = None
    try:
        asyncio.run(broker.start())
        asyncio.run(ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS)))
        if before is not None:
            asyncio.run(before(broker.connection))
        product.add_worker()
        product.add_server()
        for role in product.roles():
            role.environment.update(given)
            role.start()
        razorpay = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipeline.standin.razorpay", "--port", str(port)),
                *("--key-id", KEY_ID, "--key-secret", KEY_SECRET, "--webhook-secret", WEBHOOK_SECRET),
                *("--webhook-url", f"{product.http_url}/webhooks/razorpay"),
            ]
        )
        asyncio.run(product.ready())
        assert product.server is not None
        everything = {**os.environ, **product.server.environment}
        with httpx2.Client(base_url=product.http_url, trust_env=False, timeout=30) as http:
            yield Shop(product, http, control, everything)
    finally:
        product.stop()
        if razorpay is not None:
            razorpay.kill()
            razorpay.wait()
        control.close()
        asyncio.run(broker.stop())
        shutil.rmtree(home, ignore_errors=True)

"""One product that everything is done to, and an account of what every org must have, in a few lines that share nothing with it.

Owns: what tests/world does to it as a gateway, a member and an operator.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from aiokafka import AIOKafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from pipeline.kafka.bounded import read_to_end
from pipeline.partitioning import partition_of
from pipeline.topics import DEAD_LETTERS, REQUESTS
from tests.support.builders import event, packed, time_text
from tests.support.product.apart import Apart
from tests.support.product.processes import Role
from tests.support.product.razorpay import PARTITIONS, Shop

T = TypeVar("T")

LIMIT_S = 60.0


def cost_inr(prompt: int = 0, cached: int = 0, output: int = 0) -> Decimal:
    """Return what so many tokens of krutrim-2 cost: `prompt` without those that are `cached`."""
    return (prompt * Decimal("12.5") + cached * Decimal("3.125") + output * Decimal(50)) / 1_000_000


ONE_INR = cost_inr(136, 64, 112)
"""What `event()` costs: 200 prompt tokens, 64 of them cached, and 112 completion tokens."""


@dataclass
class World:
    """The running product, and what every org must have by what was done to it."""

    shop: Shop
    product: Apart
    mail_dir: Path
    balances: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    requests: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Requests that must be on the books, of every status."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def worker(self) -> Role:
        """The worker; there is one."""
        [worker] = self.product.workers
        return worker

    def org(self, org: str) -> str:
        """Return an org that is signed up and has the signup credit."""
        self.balances[self.shop.signed_up(org)] += 100
        return org

    def event(self, org: str, **changes: Any) -> dict[str, Any]:
        """Return an event of now, with an id of its own; its changes are those of `builders.event`."""
        plain = {"subject": org, "time": time_text(time.time_ns() // 1_000_000), "data__key_id": f"key_{org}"}
        return event(f"e{next(self.numbers)}", **{**plain, **changes})

    def publish(self, *events: dict[str, Any]) -> None:
        """Publish events where their orgs belong, as a gateway that does not number them."""
        self.send(*((partition_of(one["subject"], PARTITIONS), packed(one)) for one in events))

    def send(self, *values: tuple[int, bytes], **settings: Any) -> None:
        """Send bytes to partitions of the requests; `settings` are the producer's."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.product.servers, **settings) as producer:
                for partition, value in values:
                    await producer.send_and_wait(REQUESTS, value, partition=partition)

        asyncio.run(send())

    def owes(self, org: str, inr: Decimal = ONE_INR, requests: int = 1) -> None:
        """Note what an org must be charged, and for how many requests."""
        self.balances[org] -= inr
        self.requests[org] += requests

    def agrees(self, *orgs: str) -> None:
        """Wait until the balances of these orgs are what was noted."""
        for org in orgs:
            self.shop.until(partial(self._is_right, org), f"{org}: {self.balances[org]}", LIMIT_S)

    def _is_right(self, org: str) -> bool:
        return self.shop.balance(org) == self.balances[org]

    def requests_of(self, org: str) -> tuple[int, int]:
        """Return how many requests of an org ClickHouse has, and how many of them failed."""
        totals = self.shop.get("/me/activity", org)["totals"]
        return totals["requests"], totals["errors"]

    def metering(self, *arguments: str, code: int = 0) -> Any:
        """Run a command as an operator; the JSON that it prints, or its words where it has to fail."""
        done = self.shop.metering(*arguments)
        said = f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.product.all_words()}"
        assert done.returncode == code, said
        return json.loads(done.stdout) if code == 0 else done.stderr

    def counted(self, name: str, **labels: str) -> float:
        """Return a metric of the worker as of a second ago at most, the sum of all its labels that fit."""
        port = self.worker.environment["METERING_WORKER_PORT"]
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, verify=False, timeout=20).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def restart(self, role: Role, **environment: str) -> None:
        """Kill a role, if it has not ended yet, and start it with other settings."""
        role.kill()
        role.environment.update(environment)
        role.start()
        self.ready()

    def ready(self) -> None:
        """Wait until every part is ready."""
        self.shop.until(self._is_ready, "every part is ready", LIMIT_S)

    def _is_ready(self) -> bool:
        try:
            return self.shop.http.get("/healthz").status_code == 200
        except httpx2.HTTPError:
            return False

    def ended(self, role: Role) -> str:
        """Wait until a role has ended by itself, loudly, and return its last words."""
        self.shop.until(lambda: not role.running, f"{role.name} ends by itself", LIMIT_S)
        assert role.process is not None and role.process.returncode not in (0, None), role.words()
        return role.words()

    def letters(self, reason: str) -> list[tuple[bytes, dict[str, str]]]:
        """Return the dead letters of a reason, with their headers."""
        found = self.read(DEAD_LETTERS)
        headers = [(value, {name: text.decode() for name, text in told}) for value, told in found]
        return [(value, told) for value, told in headers if told["reason"] == reason]

    def read(self, topic: str) -> list[tuple[bytes, Any]]:
        """Return the value and headers of a topic's records."""

        async def read() -> list[tuple[bytes, Any]]:
            places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
            batches = [b for place in places async for b in read_to_end(self.product.connection, place)]
            return [(record.value, record.headers) for batch in batches for record in batch]

        return asyncio.run(read())

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something that awaits, within a limit."""

        async def within_limit() -> T:
            async with asyncio.timeout(LIMIT_S):
                return await work()

        return asyncio.run(within_limit())

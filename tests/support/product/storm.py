"""The product with two workers under traffic that has a truth of its own, for tests that do their worst to it.

Owns: how the books are compared, over everything that was published until then.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

from pipeline.accounts.commands import Credit, View
from pipeline.accounts.results import AccountView
from pipeline.api.http.sessions import issue
from pipeline.catalog.rates import Rate
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.local.broker import Broker
from tests.support.builders import COMMAND_KEYS
from tests.support.product.processes import DRAIN_LIMIT_S, SESSION_SECRET, Product
from tests.support.product.traffic import RATES, Traffic

PARTITIONS = 4
ORGS = [f"org-{n}" for n in range(40)]
SIGNED_UP = ORGS[:10]
SIGNUP_NANO = 100_000_000_000
SEED = int(os.environ.get("METERING_TEST_CHAOS_SEED", "7"))


@dataclass
class Storm:
    """The product with two workers and a server, and traffic with a truth of its own."""

    running: Product
    broker: Broker
    client: CommandClient
    traffic: Traffic
    credited_nano: Counter[str] = field(default_factory=Counter)

    async def credit(self, orgs: Sequence[str], amount_nano: int) -> None:
        """Credit each org once, with a command that is sent twice."""
        for org in orgs:
            command = Credit(f"credit-{org}-{self.credited_nano[org]}", org, amount_nano, "after the storm")
            for _ in range(2):
                await self.client.send(command, 60)
            self.credited_nano[org] += amount_nano

    async def publish_rates(self, rates: dict[tuple[str, str], tuple[int, int, int]]) -> None:
        """Publish rates, and return when every owner knows them."""
        new = [Rate(model, provider, 0, *nano) for (model, provider), nano in rates.items()]
        _, end = await publish_rates(self.running.connection, "metering", lambda *_: new)
        await self.client.barrier(end)

    async def books_agree(self) -> None:
        """Let everything come back and be drained; then the product's count and ours are the same."""
        for role in self.running.roles():
            role.signal(signal.SIGCONT)
        await self.running.ready()
        await self._drained(len(self.traffic.truth.charged))
        report = await self.running.verify()
        assert report.differences == []
        assert report.requests == len(self.traffic.truth.charged)
        for org in ORGS:
            account = await self.client.send(View(new_command_id(), org), 30)
            assert isinstance(account, AccountView), account
            assert account.balance_nano == self.credited_nano[org] - self.traffic.truth.owed_nano[org], org

    async def _drained(self, expected: int) -> None:
        deadline = time.monotonic() + DRAIN_LIMIT_S
        found = -1
        while time.monotonic() < deadline:
            self.running.revive()
            try:
                found = await self._stored()
            except httpx2.HTTPError:
                found = -1
            if found >= expected:
                return
            await asyncio.sleep(0.5)
        raise AssertionError(f"{found} of {expected} requests are stored\n{self.running.all_words()}")

    async def _stored(self) -> int:
        """Return how many requests the activity answers show over all orgs."""
        total = 0
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=20) as client:
            for org in ORGS:
                token = issue(SESSION_SECRET, org, "owner", "", int(time.time() * 1000))
                answer = await client.get(
                    f"{self.running.http_url}/me/usage", headers={"Authorization": f"Bearer {token}"}
                )
                if answer.status_code == httpx2.codes.OK:
                    total += json.loads(answer.content)["totals"]["last_30_days"]["requests"]
        return total


@asynccontextmanager
async def storming(running: Product, broker: Broker) -> AsyncIterator[Storm]:
    """Have traffic and commands connected to a running product, with rates, for as long as the block runs."""
    client = CommandClient(running.connection, COMMAND_KEYS)
    await client.start()
    traffic = Traffic(running.servers, PARTITIONS, ORGS, seed=SEED)
    await traffic.start()
    storm = Storm(running, broker, client, traffic)
    await storm.publish_rates(RATES)
    yield storm
    await traffic.stop()
    await client.stop()

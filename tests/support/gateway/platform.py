"""A running product with a gateway before it that OpenAI's own client talks to.

Owns: what such tests do: sign orgs up, make keys, ask as a client, and read what was charged.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai

from pipeline.accounts.commands import AccountCommand, CommandRefusal, CreateKey, Credit, SignUp
from pipeline.accounts.keys import hash_key
from pipeline.api.http.sessions import issue
from pipeline.catalog.rates import Rate
from pipeline.connection import KafkaConnection
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, new_command_id
from tests.support.builders import COMMAND_KEYS
from tests.support.formatted import new_broker
from tests.support.product.processes import SESSION_SECRET, Product, product

LIMIT_S = 30.0
RATES = [
    Rate("krutrim-2", "krutrim", 0, 12_500, 3_125, 50_000),
    Rate("krutrim-2", "e2e", 0, 14_000, 14_000, 56_000),
    Rate("sarvam-m", "sarvam", 0, 18_000, 4_500, 72_000),
]
SIGNUP_NANO = 100_000_000_000
PROMPT: list[Any] = [{"role": "user", "content": "what does this cost"}]
COST_NANO = 4 * 12_500 + 10 * 50_000
"""Of PROMPT and an answer of ten tokens."""
E2E_COST_NANO = 4 * 14_000 + 10 * 56_000
"""The same, served by the dearer provider."""


def ask(client: openai.OpenAI, model: str = "krutrim-2", **more: Any) -> Any:
    """Ask for ten tokens."""
    return client.chat.completions.create(**{"model": model, "messages": PROMPT, "max_tokens": 10, **more})


def cost_nano(event: dict[str, Any]) -> int:
    """Return what an event of the API says that it cost."""
    cost_inr: float = event["cost_inr"]
    return round(cost_inr * 1_000_000_000)


@dataclass
class Platform:
    """A running product with the stand-in gateway before it."""

    runner: asyncio.Runner
    product: Product
    url: str
    commands: CommandClient
    made: int = 0

    def send(self, *commands: AccountCommand[Any]) -> None:
        """Have commands carried out."""

        async def work() -> None:
            for command in commands:
                answer = await self.commands.send(command, LIMIT_S)
                assert not isinstance(answer, CommandRefusal), answer

        self.runner.run(work())

    def org(self, balance_nano: int = SIGNUP_NANO) -> str:
        """Sign an org up, with a balance."""
        self.made += 1
        org = f"org_{self.made}"
        self.send(SignUp(new_command_id(), org, org, f"{org}@example.in"))
        if balance_nano != SIGNUP_NANO:
            self.send(Credit(new_command_id(), org, balance_nano - SIGNUP_NANO, "for the test"))
        return org

    def key(self, org: str, **given: Any) -> str:
        """Create the org's key and return its secret, once the gateway knows it."""
        key_id = f"key_of_{org}"
        secret = f"br-secret-of-{org}"
        self.send(
            CreateKey(
                id=new_command_id(),
                org=org,
                key_id=key_id,
                name="key",
                prefix=secret[:12],
                hash=hash_key(secret),
                **given,
            )
        )
        client = self.client(secret)
        eventually(lambda: answered(client) not in (401, 503))
        return secret

    def client(self, secret: str) -> openai.OpenAI:
        """Return OpenAI's client with a key; it tries once."""
        return openai.OpenAI(api_key=secret, base_url=f"{self.url}/v1", max_retries=0, timeout=20)

    def answer(self, org: str, path: str) -> dict[str, Any]:
        """Ask the API as the org's owner."""
        token = issue(SESSION_SECRET, org, "owner", "", int(time.time() * 1000))
        answer = httpx2.get(
            f"{self.product.http_url}{path}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            verify=False,
            timeout=20,
        )
        found: dict[str, Any] = answer.json()
        return found

    def events(self, org: str, count: int) -> list[dict[str, Any]]:
        """Return the org's events, newest first, once there are so many."""
        found: list[dict[str, Any]] = []

        def all_there() -> bool:
            found[:] = self.answer(org, "/me/activity/events")["events"]
            return len(found) >= count

        eventually(all_there)
        assert len(found) == count
        return found

    def all_events(self, org: str) -> list[dict[str, Any]]:
        """Return all of the org's events that are there now, newest first, page by page."""
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = self.answer(org, f"/me/activity/events?limit=200{before}")
            found += page["events"]
            if page["next_before"] is None:
                return found
            before = f"&before={page['next_before']}"


def eventually(holds: Callable[[], bool], limit_s: float = LIMIT_S) -> float:
    """Return after how many seconds something holds; fail where it does not within the limit."""
    start_s = time.monotonic()
    while not holds():
        assert time.monotonic() - start_s < limit_s, "it did not come about"
        time.sleep(0.05)
    return time.monotonic() - start_s


def answered(client: openai.OpenAI, **more: Any) -> int:
    """Return the status of a request; without a model, one that gets past the key and is never served."""
    try:
        client.chat.completions.create(**{"model": "nobody-has-it", "messages": PROMPT, **more})
    except openai.APIStatusError as error:
        return error.status_code
    return 200


@contextmanager
def product_for_gateways(prefix: str, rates: Sequence[Rate] = RATES) -> Iterator[Platform]:
    """Run a product with some rates in its catalog; whoever starts a gateway says where it is in `url`."""
    home = Path(tempfile.mkdtemp(prefix=prefix))
    broker = new_broker(home / "kafka")
    with asyncio.Runner() as runner:
        runner.run(broker.start())
        context = product(broker, home, workers=1)
        running = runner.run(context.__aenter__())
        commands = CommandClient(broker.connection, COMMAND_KEYS)
        try:
            runner.run(_start(commands, running.servers, rates))
            yield Platform(runner, running, "", commands)
        finally:
            runner.run(commands.stop())
            runner.run(context.__aexit__(None, None, None))
            runner.run(broker.stop())
            shutil.rmtree(home, ignore_errors=True)


async def _start(client: CommandClient, servers: str, rates: Sequence[Rate]) -> None:
    """Connect, and publish the rates."""
    await client.start()
    _, end = await publish_rates(KafkaConnection(servers), "metering", lambda *_: list(rates))
    await client.barrier(end, LIMIT_S)


def is_healthy(url: str) -> bool:
    """Whether something answers 200 at a URL."""
    try:
        return httpx2.get(url, trust_env=False, verify=False).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False

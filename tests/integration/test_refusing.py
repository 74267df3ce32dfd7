"""Refusing in time, over the real parts: a broker, a worker, the server, and gateways.

One deployment serves all tests here; each test has orgs of its own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipeline import ist
from pipeline.api.http.sessions import issue
from pipeline.gateway import Gateway
from tests.support.builders import DROP, event, time_text
from tests.support.gateway.bursts import Burst, Plan, nodes_of
from tests.support.product.deployment import PARTITIONS, Deployment, deployed_at
from tests.support.product.processes import SESSION_SECRET

RUPEE = 1_000_000_000
COST_INR = 0.0075
"""What `event()` costs by the shipped catalog."""
SPENT_LIMIT_S = 10.0
RELEASE_LIMIT_S = 2.0
REVOKE_LIMIT_S = 1.0


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A broker, a worker and a server, with the shipped catalog."""
    with deployed_at(tmp_path_factory.mktemp("refusing")) as deployment:
        yield deployment


class Node:
    """A gateway in this process, and ways to change the org it serves."""

    def __init__(self, deployed: Deployment, gateway: Gateway, org: str) -> None:
        self.deployed, self.gateway, self.org = deployed, gateway, org

    def code(self, key_id: str, tier: str = "standard") -> str | None:
        refusal = self.gateway.admit(self.org, key_id, tier)
        return refusal.code if refusal is not None else None

    async def serve(self, key_id: str, times: int = 1, at_ms: int | None = None, **changes: Any) -> None:
        """Publish what a number of served requests came to."""
        at = time_text(time.time_ns() // 1_000_000 if at_ms is None else at_ms)
        made = [
            event(id=DROP, source=DROP, subject=self.org, time=at, data__key_id=key_id, **changes)
            for _ in range(times)
        ]
        await asyncio.gather(*(self.gateway.publish(each) for each in made))

    async def http(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the API as the org's owner; the answer must be a 200."""
        token = issue(SESSION_SECRET, self.org, "owner", "", time.time_ns() // 1_000_000)
        url = f"{self.deployed.product.http_url}{path}"
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.request(method, url, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def command(self, *arguments: str) -> None:
        """Run a command of the command line."""
        assert self.deployed.product.server is not None
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline", *arguments, env=self.deployed.product.server.environment
        )
        assert await process.wait() == 0

    async def until(self, key_id: str, code: str | None, limit_s: float, tier: str = "standard") -> None:
        """Wait until requests of a key are answered so, at most so long."""
        deadline = time.monotonic() + limit_s
        while self.code(key_id, tier) != code:
            assert time.monotonic() < deadline, (self.code(key_id, tier), self.gateway.status())
            await asyncio.sleep(0.01)


@pytest.fixture
def within(deployed: Deployment, tmp_path: Path) -> Callable[[str, Callable[[Node], Awaitable[None]]], None]:
    """Return what runs a story with a gateway and an org that has a hundred rupees."""

    def run(org: str, story: Callable[[Node], Awaitable[None]]) -> None:
        async def told() -> None:
            async with Gateway(
                kafka_url=deployed.product.broker.url, node="test", spool_dir=tmp_path / "spool"
            ) as gateway:
                await story(Node(deployed, gateway, org))

        deployed.metering("org", "create", org, "--name", org, "--email", "owner@example.in")
        deployed.runner.run(told())

    return run


Within = Callable[[str, Callable[[Node], Awaitable[None]]], None]


def test_a_spent_budget_refuses_and_a_raised_one_releases(within: Within) -> None:
    async def story(node: Node) -> None:
        key_id = (await node.http("POST", "/me/keys", {"name": "a", "budget_inr": 2 * COST_INR}))["key_id"]
        await node.until(key_id, None, RELEASE_LIMIT_S)
        await node.serve(key_id, 2)
        await node.until(key_id, "budget_exceeded", SPENT_LIMIT_S)
        refusal, spent = node.gateway.admit(node.org, key_id), Decimal("0.015")
        assert refusal is not None
        assert (refusal.http_status, refusal.limit_inr, refusal.spent_inr) == (429, spent, spent)
        assert node.code("another-key") is None
        await node.command("key", "set", key_id, "--org", node.org, "--budget-inr", "1")
        await node.until(key_id, None, RELEASE_LIMIT_S)

    within("org-budget", story)


def test_the_budget_of_a_month_counts_the_requests_of_that_month(within: Within) -> None:
    async def story(node: Node) -> None:
        now_ms = time.time_ns() // 1_000_000
        last_month_ms = ist.month_start_ms(ist.month_of(now_ms)) - 1
        key_id = (await node.http("POST", "/me/keys", {"name": "a", "budget_inr": 2 * COST_INR}))["key_id"]
        await node.serve(key_id, 5, at_ms=last_month_ms)
        await node.serve(key_id, 1)
        await node.until("unregistered", None, RELEASE_LIMIT_S)
        for _ in range(100):
            keys = (await node.http("GET", "/me/keys"))["keys"]
            if keys[0]["spent_this_month_inr"] == COST_INR:
                break
            await asyncio.sleep(0.05)
        billing = await node.http("GET", "/me/billing")
        assert billing["balance_inr"] == 100 - 6 * COST_INR
        assert keys[0]["spent_this_month_inr"] == COST_INR
        assert node.code(key_id) is None
        await node.serve(key_id, 1)
        await node.until(key_id, "budget_exceeded", SPENT_LIMIT_S)

    within("org-months", story)


async def _trial_key(node: Node, name: str) -> str:
    """Make a trial key of the node's org; its id."""
    made: str = (await node.http("POST", "/me/keys", {"name": name, "tier": "trial"}))["key_id"]
    return made


def test_a_daily_limit_and_the_trial_ceiling(within: Within) -> None:
    async def story(node: Node) -> None:
        now_ms = time.time_ns() // 1_000_000
        yesterday_ms = ist.day_start_ms(ist.day_of(now_ms)) - 1
        limited = (await node.http("POST", "/me/keys", {"name": "a", "daily_limit": 3}))["key_id"]
        trial, other = await _trial_key(node, "t"), await _trial_key(node, "u")
        await node.serve(limited, 9, at_ms=yesterday_ms)
        await node.serve(limited, 2)
        # What is free is the org's: no key has used it up, all of them together have, and no new key has any of it.
        await node.serve(trial, 120, data__tier="trial")
        await node.serve(other, 80, data__tier="trial")
        await node.until(trial, "daily_limit_reached", SPENT_LIMIT_S, tier="trial")
        await node.until(other, "daily_limit_reached", SPENT_LIMIT_S, tier="trial")
        await node.command("key", "set", trial, "--org", node.org, "--revoke")
        another = await _trial_key(node, "t")
        await node.until(another, "daily_limit_reached", RELEASE_LIMIT_S, tier="trial")
        assert node.code(limited) is None
        await node.serve(limited, 1, data__status=500, data__usage=None)
        await node.until(limited, "daily_limit_reached", SPENT_LIMIT_S)
        await node.command("key", "set", limited, "--org", node.org, "--daily-limit", "none")
        await node.until(limited, None, RELEASE_LIMIT_S)

    within("org-days", story)


def test_a_trial_key_has_two_hundred_requests_and_the_last_one_is_served(within: Within) -> None:
    async def story(node: Node) -> None:
        await node.serve("stranger", 199, data__tier="trial")
        await node.serve("marker", 1)
        while (await node.http("GET", "/me/billing"))["balance_inr"] != 100 - COST_INR:
            await asyncio.sleep(0.05)
        assert node.code("stranger", "trial") is None
        await node.serve("stranger", 1, data__tier="trial")
        await node.until("stranger", "daily_limit_reached", SPENT_LIMIT_S, tier="trial")

    within("org-trial", story)


def test_an_org_that_has_run_out_is_refused_until_it_is_credited(within: Within) -> None:
    async def story(node: Node) -> None:
        usage = {"prompt_tokens": 0, "completion_tokens": 2_000_000}
        await node.until("k", None, RELEASE_LIMIT_S)
        await node.serve("k", data__usage=usage)
        await node.until("k", "insufficient_credits", SPENT_LIMIT_S)
        assert node.gateway.admit(node.org, "k", byok=True) is None
        await node.command("credit", node.org, "--inr", "0.01", "--reason", "a cent more")
        await node.until("k", None, RELEASE_LIMIT_S)
        refusal = node.gateway.admit(node.org, "k", max_cost_inr="0.011")
        assert refusal is not None
        assert (refusal.code, refusal.http_status) == ("insufficient_credits", 402)

    within("org-dry", story)


def test_a_revoked_key_is_refused_within_a_second(within: Within) -> None:
    async def story(node: Node) -> None:
        made = await node.http("POST", "/me/keys", {"name": "a"})
        deadline = time.monotonic() + RELEASE_LIMIT_S
        while node.gateway.authenticate(made["key"]) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await node.until(made["key_id"], None, RELEASE_LIMIT_S)
        await node.http("PATCH", f"/me/keys/{made['key_id']}", {"revoked": True})
        await node.until(made["key_id"], "invalid_api_key", REVOKE_LIMIT_S)
        assert node.gateway.authenticate(made["key"]) is None

    within("org-revoked", story)


def test_the_example_of_the_manual_is_served_until_its_budget_is_spent(
    within: Within, tmp_path: Path
) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    example = manual.partition("```python\n")[2].partition("```")[0]
    assert example.count("asyncio.sleep(1)") == 1
    home = tmp_path / "manual"
    home.mkdir()
    program = home / "try_gateway.py"
    program.write_text(example.replace("asyncio.sleep(1)", "asyncio.sleep(3)"))

    async def story(node: Node) -> None:
        made = await node.http("POST", "/me/keys", {"name": "a", "budget_inr": 0.02})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(str(program), node.deployed.product.broker.url, made["key"]),
            cwd=home,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        answers = out.decode().splitlines()
        assert [answer[:4] for answer in answers[:3]] == ["200 "] * 3
        assert answers[-1].startswith("429 {'Retry-After': ")
        assert '"limit_inr":0.02,"spent_inr":0.0225,' in answers[-1]

    within("org-manual", story)


def bursts(deployed: Deployment, home: Path, nodes: int, plans: list[Plan]) -> list[Burst]:
    """Run bursts one after the other on the same gateway processes."""

    async def run() -> list[Burst]:
        broker = deployed.product.broker
        async with nodes_of(broker.url, broker.servers, home, PARTITIONS, nodes) as running:
            return [await running.burst(plan) for plan in plans]

    return deployed.runner.run(run())


def test_one_gateway_alone_that_tells_costs_never_takes_an_org_below_zero(
    deployed: Deployment, tmp_path: Path
) -> None:
    plans = [Plan("alone", RUPEE), Plan("alone, served for 30 ms", RUPEE, service_s=0.03)]
    for burst in bursts(deployed, tmp_path, 1, plans):
        [node] = burst.nodes
        assert burst.overrun_nano == 0
        assert node.refusals["insufficient_credits"] > 0
        assert burst.spent_nano > 0.9 * burst.plan.limit_nano


def test_what_several_gateways_overrun_a_balance_or_a_budget_by_stays_within_its_bound(
    deployed: Deployment, tmp_path: Path
) -> None:
    plans = [
        Plan("costs told", RUPEE),
        Plan("no costs", RUPEE, costs=False),
        Plan("no costs, served for 30 ms", RUPEE, costs=False, service_s=0.03),
        Plan("budget", RUPEE, budget=True),
        Plan("budget, served for 30 ms", RUPEE, service_s=0.03, budget=True),
    ]
    for burst in bursts(deployed, tmp_path, 3, plans):
        assert all(set(node.refusals) == {burst.plan.code} for node in burst.nodes), burst.plan
        assert burst.spent_nano >= 0.9 * burst.plan.limit_nano
        assert burst.overrun_nano <= burst.bound_nano, burst.plan
        assert burst.is_measured, burst.plan

"""Bursts of several gateway processes at once, and the bound that their overrun is held against.

Owns: the processes, the plan of a burst, and the arithmetic of the bound. docs/overdraft.md tells it.
Called by: tests/integration/test_refusing.py and bench/gateway_overdraft.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import msgspec

from pipeline.accounts.commands import CommandRefusal, CreateKey, Credit, View
from pipeline.accounts.results import AccountView
from pipeline.connection import KafkaConnection
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.money import NANO_PER_RUPEE
from pipeline.partitioning import partition_of
from tests.support.builders import COMMAND_KEYS
from tests.support.gateway.burst import LARGEST_NANO, Done, Job

CANARIES_A_NODE = 120
CANARY_EVERY_S = 0.06
START_AHEAD_S = 1.0
RUN_S = 1.5
MORE_S = 5.0
"""How much longer a burst goes on where nothing was refused yet: a busy machine's verdicts take long."""
ANSWER_LIMIT_S = 60.0
CHARGED_LIMIT_S = 20.0
RICH_NANO = 1_000_000 * NANO_PER_RUPEE
"""What an org has whose key's budget is to end first."""


@dataclass
class Plan:
    """A burst: what there is to spend, and how its clients behave.

    `limit_nano` is the org's balance, or with `budget` the key's monthly budget, the org being rich.
    """

    name: str
    limit_nano: int
    clients: int = 6
    costs: bool = True
    service_s: float = 0.0
    budget: bool = False

    @property
    def credited_nano(self) -> int:
        """What the org is given."""
        return RICH_NANO if self.budget else self.limit_nano

    @property
    def code(self) -> str:
        """How requests are refused in the end."""
        return "budget_exceeded" if self.budget else "insufficient_credits"


@dataclass
class Burst:
    """What a burst came to."""

    plan: Plan
    org: str
    nodes: list[Done]
    canary_gap_s: float

    @property
    def spent_nano(self) -> int:
        """What all admitted requests cost."""
        return sum(node.spent_nano for node in self.nodes)

    @property
    def overrun_nano(self) -> int:
        """How far the org went below zero, or the key beyond its budget."""
        return max(0, self.spent_nano - self.plan.limit_nano)

    @property
    def lag_s(self) -> float:
        """The verdict lag: the longest from a canary's admission to its refusal on the last node."""
        sent = {org: at for node in self.nodes for org, at in node.canary_admitted.items()}
        return max(node.canary_refused[org] - at for node in self.nodes for org, at in sent.items()) / 1e9

    @property
    def window_s(self) -> float:
        """For how long spending may go unseen.

        A node's events keep their order, so an event is counted no later than the next canary of its node.
        """
        return self.lag_s + self.canary_gap_s

    @property
    def spent_unseen_nano(self) -> int:
        """Spend rate times verdict lag: the most that was admitted within any such window."""
        admitted = sorted(pair for node in self.nodes for pair in node.admitted)
        window_ns = int(self.window_s * 1e9)
        most = spent = first = 0
        for at, cost in admitted:
            spent += cost
            while admitted[first][0] < at - window_ns:
                spent -= admitted[first][1]
                first += 1
            most = max(most, spent)
        return most

    @property
    def bound_nano(self) -> int:
        """What the overrun must stay within."""
        return len(self.nodes) * LARGEST_NANO + self.spent_unseen_nano

    @property
    def is_measured(self) -> bool:
        """Whether a canary followed every admitted request of its node, so that the lag holds for them all."""
        return all(
            max(node.canary_admitted.values()) >= max((at for at, _ in node.admitted), default=0)
            for node in self.nodes
        )

    @property
    def rate_nano_s(self) -> float:
        """Spend rate until the limit was spent: nano-rupees a second."""
        admitted = sorted(pair for node in self.nodes for pair in node.admitted)
        sums, total = [], 0
        for _, cost in admitted:
            total += cost
            sums.append(total)
        last = admitted[min(len(admitted) - 1, bisect_left(sums, self.plan.limit_nano))][0]
        return self.plan.limit_nano / max(1e-3, (last - admitted[0][0]) / 1e9)


class Nodes:
    """Gateway processes that burst together."""

    def __init__(self, kafka_url: str, servers: str, home: Path, partitions: int) -> None:
        """Prepare; `start` starts some."""
        self._kafka_url, self._home, self._partitions = kafka_url, home, partitions
        self._processes: list[asyncio.subprocess.Process] = []
        self._commands = CommandClient(KafkaConnection(servers), COMMAND_KEYS)
        self._numbers = count(time.time_ns() // 1_000_000_000)

    async def start(self, nodes: int) -> None:
        """Start the processes and wait until each has read the verdicts."""
        await self._commands.start()
        for n in range(nodes):
            arguments = [
                "-m",
                "tests.support.gateway.burst",
                self._kafka_url,
                f"node-{n}",
                str(self._home / f"node-{n}"),
            ]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=64 * 1024 * 1024,
            )
            self._processes.append(process)
        for process in self._processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"

    async def stop(self) -> None:
        """Let the processes drain and end."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.gather(*(process.wait() for process in self._processes))
        await self._commands.stop()

    async def burst(self, plan: Plan, nodes: int | None = None) -> Burst:
        """Run one burst against an org of its own, on the first few nodes."""
        processes = self._processes[:nodes]
        number = next(self._numbers)
        org = f"org-burst-{number}"
        canaries = self._canaries(number, partition_of(org, self._partitions), len(processes))
        flat = [canary for each in canaries for canary in each]
        key_id = f"{org}-key"
        await self._credit(org, plan.credited_nano)
        if plan.budget:
            await self._create_key(org, key_id, plan.limit_nano)
        await asyncio.gather(*(self._credit(canary, 1) for canary in flat))
        start_ns = time.monotonic_ns() + int(START_AHEAD_S * 1e9)
        jobs = [
            Job(
                org=org,
                key_id=key_id,
                clients=plan.clients,
                costs=plan.costs,
                service_s=plan.service_s,
                start_ns=start_ns,
                run_s=RUN_S,
                more_s=MORE_S,
                seed=number * 100 + n,
                canaries=canaries[n],
                watched=flat,
                canary_every_s=CANARY_EVERY_S,
            )
            for n in range(len(processes))
        ]
        for process, job in zip(processes, jobs, strict=True):
            _tell(process, job)
        sent = [msgspec.json.decode(line, type=list[str]) for line in await _lines(processes)]
        for process in processes:
            _tell(process, [canary for each in sent for canary in each])
        done = [msgspec.json.decode(line, type=Done) for line in await _lines(processes)]
        burst = Burst(plan, org, done, max(_gap_s(node) for node in done))
        await self._charged(burst)
        return burst

    async def _charged(self, burst: Burst) -> None:
        """Wait until the books hold every admitted request, of the org and of its key.

        Raises TimeoutError where they do not.
        """
        wanted = burst.plan.credited_nano - burst.spent_nano, burst.spent_nano
        async with asyncio.timeout(CHARGED_LIMIT_S):
            while await self._books_nano(burst) != wanted:
                await asyncio.sleep(0.05)

    async def _books_nano(self, burst: Burst) -> tuple[int, int]:
        """Return the org's balance and what its key has spent; only registered keys' spending is told."""
        account = await self._commands.send(View(new_command_id(), burst.org), 30)
        assert isinstance(account, AccountView), account
        if not burst.plan.budget:
            return account.balance_nano, burst.spent_nano
        [key] = account.keys
        return account.balance_nano, key.spent_this_month_nano

    def _canaries(self, number: int, partition: int, nodes: int) -> list[list[str]]:
        """Return names of orgs on the burst's own partition, so that they wait behind its events."""
        names = (f"canary-{number}-{n}" for n in count())
        here = (name for name in names if partition_of(name, self._partitions) == partition)
        return [[next(here) for _ in range(CANARIES_A_NODE)] for _ in range(nodes)]

    async def _credit(self, org: str, amount_nano: int) -> None:
        reply = await self._commands.send(Credit(new_command_id(), org, amount_nano, "burst"), 30)
        assert not isinstance(reply, CommandRefusal), reply

    async def _create_key(self, org: str, key_id: str, budget_nano: int) -> None:
        secret_hash = hashlib.sha256(key_id.encode()).hexdigest()
        command = CreateKey(
            new_command_id(), org, key_id, "burst", "br-burst", secret_hash, budget_nano=budget_nano
        )
        reply = await self._commands.send(command, 30)
        assert not isinstance(reply, CommandRefusal), reply


@asynccontextmanager
async def nodes_of(
    kafka_url: str, servers: str, home: Path, partitions: int, nodes: int
) -> AsyncIterator[Nodes]:
    """Run gateway processes; they are ended at the end."""
    running = Nodes(kafka_url, servers, home, partitions)
    await running.start(nodes)
    try:
        yield running
    finally:
        await running.stop()


def _tell(process: asyncio.subprocess.Process, what: Job | list[str]) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(what) + b"\n")


async def _lines(processes: Sequence[asyncio.subprocess.Process]) -> list[bytes]:
    """Return the next line of each. Raises TimeoutError where one says nothing for long."""
    async with asyncio.timeout(ANSWER_LIMIT_S):
        return await asyncio.gather(*(p.stdout.readline() for p in processes if p.stdout is not None))


def _gap_s(node: Done) -> float:
    """Return the longest time between two canaries of a node, as sent."""
    sent: Sequence[int] = sorted(node.canary_admitted.values())
    return max(later - earlier for earlier, later in pairwise(sent)) / 1e9

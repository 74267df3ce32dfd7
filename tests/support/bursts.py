"""Bursts of several gateway processes at once, and the bound that their overdraft is held against.

Owns: the processes, the plan of a burst, and the arithmetic of the bound. docs/overdraft.md tells it.
Called by: tests/integration/test_refusing.py, and `python -m tests.support.bursts` for many runs.
"""

from __future__ import annotations

import asyncio
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

from pipeline.accounts.commands import Credit, View
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.partitioning import partition_of
from tests.support.burst import LARGEST_NANO, Done, Job

CANARIES_A_NODE = 25
CANARY_EVERY_S = 0.06
START_AHEAD_S = 1.0
RUN_S = 2.0
CHARGED_LIMIT_S = 20.0


@dataclass
class Plan:
    """A burst: what the org has to spend, and how its clients behave."""

    name: str
    balance_nano: int
    clients: int = 6
    costs: bool = True
    service_s: float = 0.0


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
    def overdraft_nano(self) -> int:
        """How far the org went below zero."""
        return max(0, self.spent_nano - self.plan.balance_nano)

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
        """What the overdraft must stay within."""
        return len(self.nodes) * LARGEST_NANO + self.spent_unseen_nano

    @property
    def last_admitted_ns(self) -> int:
        """When the last request was admitted."""
        return max(at for node in self.nodes for at, _ in node.admitted)

    @property
    def last_canary_ns(self) -> int:
        """Until when every node sent canaries."""
        return min(max(node.canary_admitted.values()) for node in self.nodes)

    @property
    def rate_nano_s(self) -> float:
        """Spend rate while there was money: nano-rupees a second."""
        admitted = sorted(pair for node in self.nodes for pair in node.admitted)
        sums, total = [], 0
        for _, cost in admitted:
            total += cost
            sums.append(total)
        last = admitted[min(len(admitted) - 1, bisect_left(sums, self.plan.balance_nano))][0]
        return self.plan.balance_nano / max(1e-3, (last - admitted[0][0]) / 1e9)


class Nodes:
    """Gateway processes that burst together."""

    def __init__(self, kafka_url: str, servers: str, home: Path, partitions: int) -> None:
        """Prepare; `start` starts some."""
        self._kafka_url, self._home, self._partitions = kafka_url, home, partitions
        self._processes: list[asyncio.subprocess.Process] = []
        self._commands = CommandClient(servers)
        self._numbers = count(time.time_ns() // 1_000_000_000)

    async def start(self, nodes: int) -> None:
        """Start the processes and wait until each has read the verdicts."""
        await self._commands.start()
        for n in range(nodes):
            arguments = [
                "-m",
                "tests.support.burst",
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
        await self._credit(org, plan.balance_nano)
        await asyncio.gather(*(self._credit(canary, 1) for canary in flat))
        start_ns = time.monotonic_ns() + int(START_AHEAD_S * 1e9)
        jobs = [
            Job(
                org=org,
                key_id=f"{org}-key",
                clients=plan.clients,
                costs=plan.costs,
                service_s=plan.service_s,
                start_ns=start_ns,
                run_s=RUN_S,
                seed=number * 100 + n,
                canaries=canaries[n],
                watched=flat,
                canary_every_s=CANARY_EVERY_S,
            )
            for n in range(len(processes))
        ]
        done = await asyncio.gather(
            *(_ask(process, job) for process, job in zip(processes, jobs, strict=True))
        )
        burst = Burst(plan, org, list(done), max(_gap_s(node) for node in done))
        await self._charged(burst)
        return burst

    async def _charged(self, burst: Burst) -> None:
        """Wait until the books hold every admitted request. Raises TimeoutError where they do not."""
        wanted_nano = burst.plan.balance_nano - burst.spent_nano
        async with asyncio.timeout(CHARGED_LIMIT_S):
            while await self._balance_nano(burst.org) != wanted_nano:
                await asyncio.sleep(0.05)

    async def _balance_nano(self, org: str) -> int:
        reply = await self._commands.send(View(new_command_id(), org), 30)
        return int(msgspec.json.decode(reply.result)["balance_nano"])

    def _canaries(self, number: int, partition: int, nodes: int) -> list[list[str]]:
        """Return names of orgs on the burst's own partition, so that they wait behind its events."""
        names = (f"canary-{number}-{n}" for n in count())
        here = (name for name in names if partition_of(name, self._partitions) == partition)
        return [[next(here) for _ in range(CANARIES_A_NODE)] for _ in range(nodes)]

    async def _credit(self, org: str, amount_nano: int) -> None:
        reply = await self._commands.send(Credit(new_command_id(), org, amount_nano, "burst"), 30)
        assert reply.refusal is None, reply


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


async def _ask(process: asyncio.subprocess.Process, job: Job) -> Done:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    line = await process.stdout.readline()
    return msgspec.json.decode(line, type=Done)


def _gap_s(node: Done) -> float:
    """Return the longest time between two canaries of a node, as sent."""
    sent: Sequence[int] = sorted(node.canary_admitted.values())
    return max(later - earlier for earlier, later in pairwise(sent)) / 1e9

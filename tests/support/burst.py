"""A gateway process for bursts: does the jobs it reads, one JSON line each, and answers each with a line.

Arguments: the Kafka URL, the node's name, the spool's directory. It ends when its input ends.
All times are nanoseconds of the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from pipeline.gateway import Gateway
from pipeline.money import format_inr
from tests.builders import DROP, event, time_text

TOKEN_NANO = 50_000
"""What a completion token of krutrim-2 costs; prompts are empty here."""
TOKENS = range(20, 401)
LARGEST_NANO = TOKENS[-1] * TOKEN_NANO
WATCH_S = 0.002
RETRY_S = 0.01


class Job(Struct):
    """One burst of `clients` at once against an org and a key, for `run_s` from `start_ns` on.

    `canaries` are orgs that can pay one request: this node sends one each `canary_every_s`, and watches
    all of `watched` until they are refused here. `costs` says whether requests tell their cost to `admit`.
    """

    org: str
    key_id: str
    clients: int
    costs: bool
    service_s: float
    start_ns: int
    run_s: float
    seed: int
    canaries: list[str]
    watched: list[str]
    canary_every_s: float


class Done(Struct):
    """What came of a burst: when and at what cost requests were admitted, and what the canaries saw."""

    admitted: list[tuple[int, int]] = field(default_factory=list)
    canary_admitted: dict[str, int] = field(default_factory=dict)
    canary_refused: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def spent_nano(self) -> int:
        """What the admitted requests cost."""
        return sum(cost for _, cost in self.admitted)


class Node:
    """A gateway and the burst it is in."""

    def __init__(self, gateway: Gateway, job: Job) -> None:
        """Prepare a burst."""
        self.gateway, self.job, self.done = gateway, job, Done()
        self.end_ns = job.start_ns + int(job.run_s * 1e9)

    async def run(self) -> Done:
        """Wait for the start, burst, and see every canary refused."""
        job = self.job
        while not all(self.gateway._admission.spendable_nano(org) for org in (job.org, *job.watched)):
            await asyncio.sleep(WATCH_S)
        await asyncio.sleep(max(0.0, (job.start_ns - time.monotonic_ns()) / 1e9))
        clients = [self._client(random.Random(f"{job.seed}/{n}")) for n in range(job.clients)]
        await asyncio.gather(self._send_canaries(), self._watch_canaries(), *clients)
        return self.done

    async def _client(self, chance: random.Random) -> None:
        job, number = self.job, 0
        while time.monotonic_ns() < self.end_ns:
            number += 1
            tokens = chance.choice(TOKENS)
            request_id = f"{job.org}/{chance.random()}/{number}"
            cost = format_inr(tokens * TOKEN_NANO) if job.costs else None
            admitted_ns = time.monotonic_ns()
            refusal = self.gateway.admit(job.org, job.key_id, max_cost_inr=cost, request_id=request_id)
            if refusal is not None:
                self.done.refusals[refusal.code] = self.done.refusals.get(refusal.code, 0) + 1
                await asyncio.sleep(RETRY_S)
                continue
            self.done.admitted.append((admitted_ns, tokens * TOKEN_NANO))
            await self._serve(job.org, job.key_id, tokens, request_id)

    async def _serve(self, org: str, key_id: str, tokens: int, request_id: str) -> None:
        if self.job.service_s:
            await asyncio.sleep(self.job.service_s)
        await self.gateway.publish(
            event(
                id=DROP,
                source=DROP,
                subject=org,
                time=time_text(time.time_ns() // 1_000_000),
                data__key_id=key_id,
                data__usage={"prompt_tokens": 0, "completion_tokens": tokens},
            ),
            request_id=request_id,
        )

    async def _send_canaries(self) -> None:
        async with asyncio.TaskGroup() as group:
            for org in self.job.canaries:
                self.done.canary_admitted[org] = time.monotonic_ns()
                assert self.gateway.admit(org, "canary") is None
                group.create_task(self._serve(org, "canary", TOKENS[0], org))
                await asyncio.sleep(self.job.canary_every_s)

    async def _watch_canaries(self) -> None:
        waiting = set(self.job.watched)
        while waiting:
            await asyncio.sleep(WATCH_S)
            for org in list(waiting):
                if self.gateway.admit(org, "canary") is not None:
                    self.done.canary_refused[org] = time.monotonic_ns()
                    waiting.discard(org)


async def _main(kafka_url: str, node: str, spool_dir: str) -> None:
    loop = asyncio.get_running_loop()
    async with Gateway(kafka_url=kafka_url, node=node, spool_dir=Path(spool_dir)) as gateway:
        os.write(1, b"ready\n")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            done: Any = await Node(gateway, msgspec.json.decode(line, type=Job)).run()
            sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

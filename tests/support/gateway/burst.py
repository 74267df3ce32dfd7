"""A gateway process for bursts: does the jobs it reads, one JSON line each.

It answers each with two lines: the canaries it sent when the burst has ended here, and what came of it all
once it was told, in a line, which canaries every node sent, and has seen those refused.

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
from tests.support.builders import DROP, event, time_text

TOKEN_NANO = 50_000
"""What a completion token of krutrim-2 costs; prompts are empty here."""
TOKENS = range(20, 401)
LARGEST_NANO = TOKENS[-1] * TOKEN_NANO
WATCH_S = 0.002
RETRY_S = 0.01


class Job(Struct):
    """One burst of `clients` at once against an org and a key, for `run_s` from `start_ns` on.

    It goes on for at most `more_s` until a request is refused here. `canaries` are orgs that can pay one
    request: meanwhile this node sends one each `canary_every_s`, and watches all of `watched` for being
    refused here. `costs` says whether requests tell their cost to `admit`.
    """

    org: str
    key_id: str
    clients: int
    costs: bool
    service_s: float
    start_ns: int
    run_s: float
    more_s: float
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

    async def burst(self) -> list[str]:
        """Wait for the start, burst, and return the canaries that were sent."""
        job = self.job
        while not all(self.gateway._admission.spendable_nano(org) for org in (job.org, *job.watched)):
            await asyncio.sleep(WATCH_S)
        self._watching = asyncio.create_task(self._watch_canaries())
        await asyncio.sleep(max(0.0, (job.start_ns - time.monotonic_ns()) / 1e9))
        clients = [self._client(random.Random(f"{job.seed}/{n}")) for n in range(job.clients)]
        await asyncio.gather(self._send_canaries(), *clients)
        # The last one follows the last request, so that nothing was admitted unmeasured.
        await self._send_canary(job.canaries[-1])
        return list(self.done.canary_admitted)

    async def seen(self, sent: list[str]) -> Done:
        """See all canaries of all nodes refused, and return what came of the burst."""
        while not set(sent) <= self.done.canary_refused.keys():
            await asyncio.sleep(WATCH_S)
        self._watching.cancel()
        return self.done

    def _goes_on(self) -> bool:
        now_ns = time.monotonic_ns()
        if self.done.refusals:
            return now_ns < self.end_ns
        return now_ns < self.end_ns + int(self.job.more_s * 1e9)

    async def _client(self, chance: random.Random) -> None:
        job, number = self.job, 0
        while self._goes_on():
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
        """Send all but the last for as long as clients ask."""
        async with asyncio.TaskGroup() as group:
            for org in self.job.canaries[:-1]:
                if not self._goes_on():
                    break
                group.create_task(self._send_canary(org))
                await asyncio.sleep(self.job.canary_every_s)

    async def _send_canary(self, org: str) -> None:
        self.done.canary_admitted[org] = time.monotonic_ns()
        assert self.gateway.admit(org, "canary") is None
        await self._serve(org, "canary", TOKENS[0], org)

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
            in_burst = Node(gateway, msgspec.json.decode(line, type=Job))
            _say(await in_burst.burst())
            everywhere = await loop.run_in_executor(None, sys.stdin.readline)
            _say(await in_burst.seen(msgspec.json.decode(everywhere, type=list[str])))


def _say(what: Any) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

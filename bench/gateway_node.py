"""A gateway process under load that sends probes and watches for their refusal.

Arguments: the Kafka URL, the node's name, the spool's directory. One job as JSON comes on stdin, one
answer goes to stdout. A probe is an org that can pay one request: its event takes it below zero.
Times are nanoseconds since 1970 by the one clock of the machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from bench.events import MODELS, PROVIDERS
from pipeline.gateway import Gateway
from pipeline.gateway.sending.batches import Record

TICK_S = 0.01
WATCH_S = 0.002


class Job(Struct):
    """`events_s` for `run_s` over `orgs` orgs; `probes` are sent here, `watched` are watched here."""

    events_s: int
    orgs: int
    run_s: float
    warm_s: float
    start_ns: int
    probes: list[str]
    watched: list[str]


class Times(Struct):
    """When each probe was published, stored, acknowledged by Kafka, and refused here."""

    published: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    events: int = 0
    late_s: float = 0.0


def request(org: str, number: int) -> dict[str, Any]:
    """Return the event of a finished request, as a gateway hands it to `publish`."""
    now_ms = time.time_ns() // 1_000_000
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms // 1000))
    return {
        "subject": org,
        "time": f"{stamp}.{now_ms % 1000:03d}Z",
        "data": {
            "key_id": f"{org}_key_{number % 5}",
            "tier": "standard",
            "byok": False,
            "model": MODELS[number % 10],
            "provider": PROVIDERS[number % 3],
            "status": 200,
            "error_code": None,
            "latency_ms": 300 + number % 4000,
            "ttft_ms": 90 + number % 300,
            "stream": True,
            "usage": {
                "prompt_tokens": 200 + number % 1800,
                "completion_tokens": 20 + number % 700,
                "total_tokens": 220 + number % 1800 + number % 700,
            },
        },
    }


class Node:
    """A gateway and what is measured of it."""

    def __init__(self, gateway: Gateway, job: Job) -> None:
        """Prepare; `run` does the job."""
        self.gateway, self.job, self.times = gateway, job, Times()
        self._tasks: set[asyncio.Task[Any]] = set()
        gateway._sender._sent = self._noting(gateway._sender._sent)

    def _noting(self, sent: Callable[[Record, int], None]) -> Callable[[Record, int], None]:
        def note(record: Record, offset: int) -> None:
            now_ns = time.time_ns()
            for entry in record.entries:
                if entry.org.startswith("probe"):
                    self.times.sent[entry.org] = now_ns
            sent(record, offset)

        return note

    async def run(self) -> Times:
        """Publish the load and the probes, and see every probe refused."""
        while not all(self.gateway._admission.spendable_nano(org) for org in self.job.watched):
            await asyncio.sleep(WATCH_S)
        await asyncio.sleep(max(0.0, (self.job.start_ns - time.time_ns()) / 1e9))
        await asyncio.gather(self._load(), self._probe(), self._watch())
        return self.times

    async def _load(self) -> None:
        start, number = time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < self.job.run_s:
            due = int(elapsed * self.job.events_s)
            while number < due:
                number += 1
                self._begin(self.gateway.publish(request(f"org_{number * 7919 % self.job.orgs:07d}", number)))
            self.times.late_s = max(self.times.late_s, time.monotonic() - start - elapsed)
            await asyncio.sleep(TICK_S)
        self.times.events = number
        await asyncio.gather(*self._tasks)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self) -> None:
        await asyncio.sleep(self.job.warm_s)
        every_s = (self.job.run_s - self.job.warm_s) / max(1, len(self.job.probes))
        for number, org in enumerate(self.job.probes):
            self._begin(self._publish_probe(org, number))
            await asyncio.sleep(every_s)

    async def _publish_probe(self, org: str, number: int) -> None:
        self.times.published[org] = time.time_ns()
        await self.gateway.publish(request(org, number))
        self.times.stored[org] = time.time_ns()

    async def _watch(self) -> None:
        waiting = set(self.job.watched)
        while waiting:
            await asyncio.sleep(WATCH_S)
            for org in list(waiting):
                if self.gateway.admit(org, "probe") is not None:
                    self.times.refused[org] = time.time_ns()
                    waiting.discard(org)


async def _main(kafka_url: str, node: str, spool_dir: str) -> None:
    loop = asyncio.get_running_loop()
    async with Gateway(kafka_url=kafka_url, node=node, spool_dir=Path(spool_dir)) as gateway:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        times = await Node(gateway, msgspec.json.decode(line, type=Job)).run()
        sys.stdout.write(msgspec.json.encode(times).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

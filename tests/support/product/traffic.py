"""Traffic with a truth of its own: what is published, and what it has to come to.

Owns: making events and counting, in the plainest way, what each org has to be charged. It shares no code
with the product, on purpose.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

TOPIC = "metering.requests"
RATES = {("alpha", "one"): (12_500, 3_125, 50_000), ("alpha", "two"): (15_000, 15_000, 60_000)}
"""(model, provider) -> nano-rupees a prompt, cached and completion token."""


@dataclass
class Truth:
    """What has been published so far, and what it comes to."""

    charged: set[tuple[str, str]] = field(default_factory=set)
    owed_nano: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    dead: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    paid: int = 0
    """Those of `charged` that are not free."""
    moved: int = 0


class Traffic:
    """Two numbered gateways and one that does not number its events, all drawn from one seed."""

    def __init__(self, servers: str, partitions: int, orgs: list[str], seed: int) -> None:
        """Prepare; `start` connects."""
        self._servers, self._partitions, self._orgs = servers, partitions, orgs
        self._random = random.Random(seed)
        self._sequence = Counter[str]()
        self._made = 0
        self._recent: list[tuple[int, bytes]] = []
        self.rates = RATES
        """The routes that events take from now on, and what they cost."""
        self.truth = Truth()

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            request_timeout_ms=60_000,
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._producer.stop()

    def partition(self, org: str) -> int:
        """Return where an org belongs."""
        return (int(murmur2(org.encode())) & 0x7FFFFFFF) % self._partitions

    async def publish(self, events: int) -> None:
        """Publish about this many events: batches and single ones, duplicates, misplaced and bad ones."""
        while events > 0:
            org = self._random.choice(self._orgs)
            right = self.partition(org)
            count = self._random.choice((1, 1, 5, 40))
            events -= count
            source = self._random.choice(("gateway/a", "gateway/b", "gateway/unnumbered"))
            batch = [self._event(source, org) for _ in range(count)]
            kind = self._random.random()
            partition = right
            if kind < 0.03 and self._partitions > 1:
                partition = (right + 1) % self._partitions
                self.truth.moved += count
            value = json.dumps(batch if count > 1 else batch[0], separators=(",", ":")).encode()
            if kind > 0.98:
                value = value[:-1]
                self.truth.dead["malformed"] += 1
                await self._send(right, value)
                continue
            for event in batch:
                self._count(event)
            await self._send(partition, value)
            if partition == right:
                self._recent.append((right, value))
            if len(self._recent) > 50 and self._random.random() < 0.2:
                again, repeated = self._recent[-self._random.randint(1, 40)]
                decoded = json.loads(repeated)
                self.truth.duplicates += len(decoded) if isinstance(decoded, list) else 1
                await self._send(again, repeated)

    async def _send(self, partition: int, value: bytes) -> None:
        await self._producer.send_and_wait(TOPIC, value, partition=partition)

    def _event(self, source: str, org: str) -> dict[str, Any]:
        self._made += 1
        model, provider = self._random.choice(list(self.rates))
        prompt, completion = self._random.randint(1, 4000), self._random.randint(0, 2000)
        now_ms = int(time.time() * 1000) - self._random.randint(0, 3 * 86_400_000)
        event: dict[str, Any] = {
            "specversion": "1.0",
            "type": "bharatrouter.request.completed.v1",
            "source": source,
            "id": f"event-{self._made}",
            "subject": org,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms // 1000))
            + f".{now_ms % 1000:03d}Z",
            "data": {
                "key_id": f"key-{self._random.randint(1, 3)}",
                "tier": self._random.choice(("standard", "standard", "standard", "trial")),
                "byok": self._random.random() < 0.1,
                "model": model,
                "provider": provider,
                "status": self._random.choice((200, 200, 200, 500)),
                "latency_ms": self._random.randint(10, 9000),
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "prompt_tokens_details": {"cached_tokens": self._random.randint(0, prompt)},
                },
            },
        }
        if source != "gateway/unnumbered":
            # One sequence a source and partition, as a spool that sends in order has it.
            stream = f"{source}/{self.partition(org)}"
            self._sequence[stream] += 1
            event["source"] = stream
            event["sequence"] = f"{self._sequence[stream]:020d}"
        return event

    def _count(self, event: dict[str, Any]) -> None:
        data, usage = event["data"], event["data"]["usage"]
        self.truth.charged.add((event["source"], event["id"]))
        if data["tier"] == "trial" or data["byok"] or data["status"] >= 400:
            return
        self.truth.paid += 1
        rates = self.rates[data["model"], data["provider"]]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        tokens = (usage["prompt_tokens"] - cached, cached, usage["completion_tokens"])
        self.truth.owed_nano[event["subject"]] += sum(n * rate for n, rate in zip(tokens, rates, strict=True))

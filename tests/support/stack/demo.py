"""The demo's platform and traffic through the stack or the cluster, from this machine as any gateway beside it, and what it must come to.

Owns: the stand-in gateway and the demo's own process against the stack's ports; what every org must have by the events on
Kafka, computed apart from the worker; what the API says it has.
Called by: tests/stack/test_stack.py, tests/kube/test_kube.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import httpx2
import msgspec
from aiokafka import TopicPartition

from pipeline import ist
from pipeline.catalog.rates import RateTable
from pipeline.connection import KafkaConnection
from pipeline.demo.figures import SIGNUP_NANO, cost_of_event, figures
from pipeline.demo.marker import FILE, Marker
from pipeline.demo.platform import ORGS, DemoOrg
from pipeline.demo.seeding import catalog, table_of
from pipeline.demo.sign_in import token_of
from pipeline.demo.traffic import DAYS, history
from pipeline.events import elements_of
from pipeline.kafka.bounded import read_to_end
from pipeline.kafka.partitions import partition_count
from pipeline.money import NANO_PER_RUPEE
from pipeline.topics import REQUESTS
from tests.support import ports
from tests.support.stack.composed import eventually

RATE = 10.0
SEED = 1
LIMIT_S = 240.0


@dataclass(frozen=True)
class Books:
    """How many requests an org has, and its balance in nano-rupees."""

    requests: int
    balance_nano: int


class Product(Protocol):
    """A product that runs: where its server and its Kafka are from here, and its settings, the two secrets among them."""

    @property
    def url(self) -> str:
        """Where the server is."""

    @property
    def kafka_url(self) -> str:
        """Where Kafka is."""

    @property
    def variables(self) -> Mapping[str, str]:
        """METERING_COMMAND_KEY and METERING_SESSION_SECRET, at least."""


@dataclass
class DemoTraffic:
    """The demo beside the product: one stand-in gateway, and the process that fills in a history and goes on with traffic."""

    stack: Product
    home: Path
    gateway_port: int = field(default_factory=ports.free)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def _kafka(self) -> KafkaConnection:
        return KafkaConnection(self.stack.kafka_url.removeprefix("kafka://"))

    @property
    def _gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    def start(self) -> None:
        """Start both, and return once the history shows and traffic is live. Raises AssertionError."""
        self._start(
            "gateway",
            *("pipeline.standin.gateway", "--kafka-url", self.stack.kafka_url, "--node", "demo"),
            *("--port", str(self.gateway_port), "--spool-dir", str(self.home / "spool")),
        )
        self._start(
            "demo",
            *("pipeline.demo.main", "--data-dir", str(self.home), "--url", self.stack.url),
            *("--gateway-url", self._gateway_url, "--seed", str(SEED), "--rate", f"{RATE:g}"),
        )
        eventually(self._is_live, "the demo's traffic is live", LIMIT_S)

    def _is_live(self) -> bool:
        said = self.said("demo")
        assert self.processes["demo"].poll() is None, said
        return "Live traffic" in said

    def _start(self, name: str, *words: str) -> None:
        secrets = ("METERING_COMMAND_KEY", "METERING_SESSION_SECRET")
        environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith("METERING_")},
            **{each: self.stack.variables[each] for each in secrets},
            "METERING_KAFKA_URL": self.stack.kafka_url,
        }
        with self._log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def said(self, name: str) -> str:
        """Return what one of the two has said."""
        return self._log(name).read_text(errors="replace")

    def stop(self) -> None:
        """End the traffic, wait until the gateway has handed everything on, and end the gateway. Raises AssertionError."""
        self._end("demo")
        eventually(lambda: self._status()["waiting_events"] == 0, "the spool is empty", LIMIT_S)
        self._end("gateway")

    def _status(self) -> dict[str, Any]:
        answer = httpx2.get(f"{self._gateway_url}/healthz", trust_env=False, timeout=10)
        found: dict[str, Any] = answer.json()
        return found

    def _end(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGTERM)
        assert self.processes[name].wait(30) == 0, self.said(name)

    def kill(self) -> None:
        """End whatever still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def shown(self) -> dict[str, Books]:
        """Return what the API says of each org."""
        return {org.org: self._shown(org) for org in ORGS}

    def _shown(self, org: DemoOrg) -> Books:
        token = token_of(org, self.stack.variables["METERING_SESSION_SECRET"])
        today = ist.day_of(self._marker().now_ms)
        # The history's days and the one after: the clock may pass midnight meanwhile.
        days = {"from": ist.date_of(today - DAYS).isoformat(), "to": ist.date_of(today + 1).isoformat()}
        requests = self._ask("/me/activity", token, days)["totals"]["requests"]
        balance_inr = self._ask("/me/billing", token, {})["balance_inr"]
        return Books(int(requests), int(Decimal(balance_inr) * NANO_PER_RUPEE))

    def _ask(self, path: str, token: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        answer = httpx2.get(
            f"{self.stack.url}{path}",
            params=dict(parameters),
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=20,
        )
        answer.raise_for_status()
        found: dict[str, Any] = json.loads(answer.content, parse_float=Decimal)
        return found

    def _marker(self) -> Marker:
        return msgspec.json.decode((self.home / FILE).read_bytes(), type=Marker)

    def due(self) -> dict[str, Books]:
        """Return what each org must have: by the events on Kafka, each once, the catalog, and the demo's credits."""
        marker = self._marker()
        rates = table_of(catalog(marker.now_ms))
        credited = figures(
            list(history(marker.seed, marker.now_ms, rates)), marker.seed, marker.rate, marker.now_ms, rates
        ).credits
        counted, spent_nano = _counted(asyncio.run(_events(self._kafka)), rates)
        return {
            org.org: Books(
                counted[org.org],
                SIGNUP_NANO + sum(each.amount_nano for each in credited[org.org]) - spent_nano[org.org],
            )
            for org in ORGS
        }


def _counted(events: list[dict[str, Any]], rates: RateTable) -> tuple[Counter[str], Counter[str]]:
    """Return how many requests each org has made, and what they cost in nano-rupees; an event that came twice is one."""
    once = {(event["source"], event["id"]): event for event in events}
    counted: Counter[str] = Counter()
    spent_nano: Counter[str] = Counter()
    for event in once.values():
        counted[event["subject"]] += 1
        spent_nano[event["subject"]] += cost_of_event(event["data"], event["time"], rates)[0]
    return counted, spent_nano


async def _events(kafka: KafkaConnection) -> list[dict[str, Any]]:
    """Return every event on Kafka."""
    found: list[dict[str, Any]] = []
    for number in range(await partition_count(kafka)):
        async for records in read_to_end(kafka, TopicPartition(REQUESTS, number)):
            for record in records:
                found += [json.loads(each) for each in elements_of(record.value) or ()]
    return found


@contextmanager
def under_way(product: Product, home: Path) -> Iterator[DemoTraffic]:
    """Have the demo's history in a product and its traffic under way, for as long as the block runs."""
    traffic = DemoTraffic(product, home)
    try:
        began_s = time.monotonic()
        traffic.start()
        print(f"\nthe demo's history shows after {time.monotonic() - began_s:.0f} s")
        yield traffic
    finally:
        traffic.kill()

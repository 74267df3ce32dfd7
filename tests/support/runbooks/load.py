"""What goes on while runbooks are walked: events, page requests, and a gateway with a spool, in a thread of its own.

Owns: the load, and the count of what was taken. Called by: tests/runbooks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from aiokafka.errors import KafkaError

from pipeline.api.http.sessions import issue
from pipeline.gateway import Gateway, SpoolFull
from pipeline.gateway.metrics import CONTENT_TYPE, exposition
from pipeline.kafka import clients
from pipeline.partitioning import partition_of
from pipeline.topics import REQUESTS
from tests.support import ports
from tests.support.builders import packed
from tests.support.product.processes import SESSION_SECRET
from tests.support.product.razorpay import PARTITIONS
from tests.support.product.world import World

SPOOL_BYTES = 64 * 1024
"""Small, so that it is a fifth full after some seconds without Kafka."""
ORGS = ("org_a", "org_b", "org_c", "org_d")
"""Both partitions have some of them."""


@dataclass
class Load:
    """Goes on from `start` to `stop`. `pause` keeps good events back, and nothing else."""

    world: World
    spool_dir: Path
    taken: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*ORGS, "org_spool"), 0))
    """How many events of each org were taken for good."""
    gateway_port: int = field(default_factory=ports.free)
    paused: threading.Event = field(default_factory=threading.Event)
    _ending: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, when all that was begun has been taken."""
        self._ending.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        work: tuple[Coroutine[Any, Any, None], ...] = (self._events(), self._pages(), self._gateway())
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)

    async def _events(self) -> None:
        """Publish ten events a second; each is sent until Kafka has confirmed it, under one id."""
        async with clients.producer(self.world.product.connection) as producer:
            while not self._ending.is_set():
                for org in ORGS:
                    value, place = packed(self.world.event(org)), partition_of(org, PARTITIONS)
                    while not self.paused.is_set():
                        try:
                            await producer.send_and_wait(REQUESTS, value, partition=place)
                        except KafkaError:
                            await asyncio.sleep(0.5)
                            continue
                        self.taken[org] += 1
                        break
                    await asyncio.sleep(0.1)

    async def _pages(self) -> None:
        """Ask for usage five times a second, whatever is answered."""
        url = f"{self.world.product.http_url}/me/usage"
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=20) as client:
            while not self._ending.is_set():
                token = issue(SESSION_SECRET, ORGS[0], "owner", "", int(time.time() * 1000))
                with suppress(httpx2.HTTPError):
                    await client.get(url, headers={"Authorization": f"Bearer {token}"})
                await asyncio.sleep(0.2)

    async def _gateway(self) -> None:
        """Publish an event a second by the library, whose node serves its numbers to Prometheus."""
        url = f"kafka://{self.world.product.servers}"
        async with Gateway(
            kafka_url=url, node="walked-1", spool_dir=self.spool_dir, spool_bytes_max=SPOOL_BYTES
        ) as gateway:
            page = _Page(("127.0.0.1", self.gateway_port), gateway)
            threading.Thread(target=page.serve_forever, daemon=True).start()
            while not self._ending.is_set():
                event = self.world.event("org_spool")
                if not self.paused.is_set():
                    with suppress(SpoolFull):
                        await gateway.publish({name: event[name] for name in ("subject", "time", "data")})
                        self.taken["org_spool"] += 1
                await asyncio.sleep(1)
            page.shutdown()


class _Page(ThreadingHTTPServer):
    """Serves a gateway's numbers."""

    def __init__(self, at: tuple[str, int], gateway: Gateway) -> None:
        super().__init__(at, _Answer)
        self.gateway = gateway

    def handle_error(self, request: object, address: object) -> None:
        """Say nothing of a Prometheus that did not wait for its answer."""


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the numbers of this moment."""
        assert isinstance(self.server, _Page)
        body = exposition(self.server.gateway.status())
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

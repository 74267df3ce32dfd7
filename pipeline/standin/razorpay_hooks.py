"""How the stand-in for Razorpay tells of events: signed, again after a failure, and badly where asked to.

Owns: the deliveries: their order, copies, losses and retries.
Called by: `standin/razorpay.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec

from pipeline.razorpay.signatures import sign

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 5.0
TRIES_MAX = 12


@dataclass
class Manners:
    """How webhooks are delivered. `lost` tells which events never go out: names, or `*` for all."""

    url: str = ""
    secret: str = ""
    lost: list[str] = field(default_factory=list)
    copies: int = 1
    reversed: bool = False
    delay_s: float = 0.0
    retry_s: float = 1.0


class Hooks:
    """Delivers events in the background."""

    def __init__(self) -> None:
        """Start with nowhere to deliver to."""
        self.manners = Manners()
        self.delivered: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = httpx2.AsyncClient(timeout=ANSWER_LIMIT_S, trust_env=False)

    def tell(self, events: list[dict[str, Any]]) -> None:
        """Deliver events without waiting; each keeps its event id in all its copies and retries."""
        manners = self.manners
        if not manners.url:
            return
        wanted = [e for e in events if "*" not in manners.lost and e["event"] not in manners.lost]
        for event in reversed(wanted) if manners.reversed else wanted:
            event_id = f"evt_{next(self._ids):014d}"
            for _ in range(manners.copies):
                task = asyncio.create_task(self._deliver(event_id, event))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Return when nothing is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in self._tasks:
            task.cancel()
        await self._http.aclose()

    async def _deliver(self, event_id: str, event: Mapping[str, Any]) -> None:
        manners = self.manners
        body = msgspec.json.encode(event)
        headers = {
            "Content-Type": "application/json",
            "X-Razorpay-Signature": sign(body, manners.secret),
            "X-Razorpay-Event-Id": event_id,
        }
        pause_s = manners.retry_s
        await asyncio.sleep(manners.delay_s)
        for _ in range(TRIES_MAX):
            status = await self._post(body, headers)
            self.delivered.append({"id": event_id, "event": event["event"], "status": status})
            if httpx2.codes.is_success(status):
                return
            await asyncio.sleep(pause_s)
            pause_s *= 2
        log.warning("webhook %s was given up", event_id)

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        try:
            return (await self._http.post(self.manners.url, content=body, headers=headers)).status_code
        except httpx2.HTTPError as error:
            log.info("webhook not delivered: %r", error)
            return 0

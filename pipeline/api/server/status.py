"""What the server's status port says: which of its parts are well, and whether it should be sent requests.

Owns: when a server is ready, and which routes it cannot answer. Called by: `api/server/main.py`.
Next: `status_server.py` answers, `api/routes/health.py` finds out.

A server is ready while it can answer what ClickHouse alone can answer. A worker or Kafka that is away takes away the
routes that ask an account's owner, of every server alike: taking the servers out of a load balancer would take away the
rest too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIRouter

from pipeline.api.routes.health import DATABASE, READY, KeptHealth
from pipeline.api.services.dependencies import accounts_of
from pipeline.status_server import Answer, RoleStatus

LOOK_EVERY_S = 1.0
KNOWN_MAX_S = 10.0
"""After so long without a look at the parts, what was found says nothing any more."""
OWNERS = ("kafka", "worker")
"""The parts without which no account's owner can be asked."""


class ServerStatus:
    """What was found of the parts at the last look, and what follows for who sends requests."""

    def __init__(self) -> None:
        """Start with nothing found: not ready."""
        self.role = RoleStatus(self._problems, self._ready)
        self._found: Mapping[str, str | None] = {"server": "starting"}
        self._found_at_s = time.monotonic()
        self._asks_owners: tuple[str, ...] = ()

    async def look(self, kept: KeptHealth, asks_owners: Collection[str]) -> None:
        """Look at the parts again and again, until cancelled. `asks_owners` are the routes that need a worker."""
        self._asks_owners = tuple(asks_owners)
        while True:
            found = await kept.problems()
            self._found, self._found_at_s = found, time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)

    def _problems(self) -> Mapping[str, str | None]:
        age_s = time.monotonic() - self._found_at_s
        if age_s > KNOWN_MAX_S:
            return {"server": f"nothing is known of its parts for {age_s:.0f} s"}
        return self._found

    def _ready(self) -> Answer:
        problems = self._problems()
        away = any(problems.get(part) for part in OWNERS)
        words = {name: problem or READY for name, problem in problems.items()}
        # With one of several shards away, the orgs of the others are still answered.
        is_ready = None in (problem for name, problem in problems.items() if name.startswith(DATABASE))
        return is_ready, {**words, "routes_away": list(self._asks_owners) if away else []}


def asking_owners(routers: Collection[APIRouter]) -> Iterator[str]:
    """Yield the routes that ask an account's owner, `METHOD /path`: by what they depend on."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and _depends(route.dependant):
                yield from (f"{method} {route.path}" for method in sorted(route.methods or ()))


def _depends(dependant: Dependant) -> bool:
    return dependant.call is accounts_of or any(map(_depends, dependant.dependencies))

"""The product on a secured cluster: every role is a process of its own, with a user and the rights of its role.

Owns: starting and watching them, and the operator's commands. Called by: tests/integration/test_secured.py, tests/cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from pipeline import topics
from tests.support import ports
from tests.support.builders import COMMAND_KEY
from tests.support.clickhouse.process import ClickHouse
from tests.support.product.processes import OPERATOR_TOKEN, SESSION_SECRET, Role
from tests.support.secured.cluster import ADMIN, SecuredCluster

USERS = ("gateway", "worker", "sink", "notary", "server", "verify", "operator", "topics")
"""Each is named as its role. A user without any right is «nobody»."""
NOBODY = "nobody"
START_LIMIT_S = 90.0


@dataclass
class SecuredProduct:
    """A deployment on a secured cluster."""

    cluster: SecuredCluster
    home: Path
    partitions: int
    clickhouse: ClickHouse
    settings: dict[str, str] = field(default_factory=dict)
    roles: list[Role] = field(default_factory=list)
    http_url: str = ""

    def environment(self, user: str) -> dict[str, str]:
        """Return the whole environment of a process that works as a user."""
        return {
            **os.environ,
            **self.cluster.environment(user),
            "METERING_CLICKHOUSE_URL": self.clickhouse.url,
            "METERING_SESSION_SECRET": SESSION_SECRET,
            "METERING_OPERATOR_TOKEN": OPERATOR_TOKEN,
            "METERING_COMMAND_KEY": COMMAND_KEY,
            "METERING_PARTITIONS": str(self.partitions),
            "METERING_SERVER_SINK": "false",
            **self.settings,
        }

    def add(self, name: str, command: str, user: str | None = None, **more: str) -> Role:
        """Add a role, not yet started; its user is named as its command, where no other is given."""
        environment = {
            **self.environment(user or command),
            "METERING_INSTANCE": name,
            "METERING_WORKER_PORT": str(ports.free()),
            **more,
        }
        role = Role(name, command, environment, self.home / f"{name}.log")
        self.roles.append(role)
        return role

    def add_server(self) -> Role:
        """Add the server, not yet started."""
        port = ports.free()
        self.http_url = f"http://127.0.0.1:{port}"
        return self.add(
            "server", "server", METERING_PORT=str(port), METERING_SERVER_STATUS_PORT=str(ports.free())
        )

    async def ready(self) -> None:
        """Return when every role says that it is ready. Raises AssertionError with the logs where one does not."""
        deadline = time.monotonic() + START_LIMIT_S
        waiting = {f"{role.status_url}/readyz" for role in self.roles} | {f"{self.http_url}/healthz"}
        said = ""
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            while waiting:
                assert time.monotonic() < deadline, f"{waiting}: {said}\n{self.words()}"
                for url in sorted(waiting):
                    try:
                        answer = await client.get(url)
                    except httpx2.HTTPError as error:
                        said = repr(error)
                        continue
                    said = answer.text
                    if answer.status_code == httpx2.codes.OK:
                        waiting.remove(url)
                await asyncio.sleep(0.2)

    def metering(self, user: str, *arguments: str, code: int = 0) -> Any:
        """Run a command as a user; the JSON that it prints, or its words where it has to fail."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            env=self.environment(user),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.words()}"
        )
        return json.loads(done.stdout) if code == 0 and done.stdout.strip() else done.stderr

    def grant_rights(self) -> None:
        """Have the administrator give each user the rights of its role."""
        grants = [part for user in USERS for part in ("--grant", f"{user}=User:{user}")]
        self.metering(ADMIN, "topics", "--acls", *grants)

    def words_of_roles(self) -> str:
        """Return the last words of every role."""
        return "\n".join(f"--- {role.name}\n{role.words()}" for role in self.roles)

    def words(self) -> str:
        """Return the last words of every process and node."""
        return self.words_of_roles() + self.cluster.words()

    def stop(self) -> None:
        """End every process but the cluster."""
        for role in self.roles:
            role.kill()
        self.clickhouse.kill()


@asynccontextmanager
async def prepared(
    cluster: SecuredCluster, home: Path, partitions: int, seed: int, settings: dict[str, str] | None = None
) -> AsyncIterator[SecuredProduct]:
    """Start a cluster whose users have the rights of their roles, with topics and tables; no role runs yet."""
    clickhouse = ClickHouse(home / "clickhouse", seed=seed)
    running = SecuredProduct(cluster, home, partitions, clickhouse, settings or {})
    try:
        await cluster.start()
        running.grant_rights()
        assert len(running.metering("topics", "topics")["created"]) == len(topics.TOPICS)
        running.clickhouse.start()
        running.metering("sink", "migrate")
        yield running
    finally:
        running.stop()
        cluster.stop()

"""The stack of docker-compose.yml, as it stands: up, asked, killed, down.

Owns: its settings (deploy/example.env, filled in), its containers, and how one is killed.
Called by: tests/stack/test_stack.py.
"""

from __future__ import annotations

import json
import re
import resource
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.support import ports
from tests.support.deploy import DEPLOY, ROOT
from tests.support.stack.commands import run, tried
from tests.support.stack.images import PRODUCT

PROJECT = "metering-stack"
"""Whoever runs the stack on this machine has a project `metering`, which stays as it is."""
UP_LIMIT_S = 600.0
KILL_LIMIT_S = 180.0
_KILL = "import os, sys; os.kill(int(sys.argv[1]), 9)"


@dataclass(frozen=True)
class Container:
    """One container as the engine describes it now. `restarts` counts what the engine did by itself."""

    name: str
    pid: int
    started: str
    restarts: int
    health: str
    exit_code: int
    running: bool


@dataclass
class Stack:
    """The running stack. `command` is Docker Compose, `environment` has the engine, `home` keeps the settings."""

    command: Sequence[str]
    environment: Mapping[str, str]
    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write the settings: new secrets, ports that are free, and as many open files as the machine lets out."""
        open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.variables = {
            **{name: secrets.token_hex(32) for name in _secrets()},
            "METERING_OPERATOR_TOKEN": secrets.token_hex(32),
            "CONTAINER_IMAGE": PRODUCT,
            "HTTP_PORT": str(ports.free()),
            "KAFKA_PORT": str(ports.free()),
            "PROMETHEUS_PORT": str(ports.free()),
            "OPEN_FILES_MAX": str(min(open_files, 262_144)),
            "METERING_LOG_LEVEL": "info",
        }
        lines = [f"{name}={value}" for name, value in self.variables.items()]
        self._settings.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def _settings(self) -> Path:
        return self.home / "stack.env"

    @property
    def url(self) -> str:
        """Where the server is, from this machine."""
        return f"http://127.0.0.1:{self.variables['HTTP_PORT']}"

    @property
    def kafka_url(self) -> str:
        """Where Kafka is, from this machine."""
        return f"kafka://127.0.0.1:{self.variables['KAFKA_PORT']}"

    def compose(self, *arguments: str, limit_s: float = UP_LIMIT_S) -> str:
        """Return what `docker compose` printed. Raises CommandError."""
        return run(self._words(*arguments), self._environment(), limit_s=limit_s, at=ROOT)

    def metering(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product in a container of its own, as an operator."""
        asked = self._words("run", "--rm", "--no-deps", "--no-TTY", "cli", *arguments)
        return tried(asked, self._environment(), limit_s=UP_LIMIT_S, at=ROOT)

    def _words(self, *arguments: str) -> list[str]:
        named = ["--project-name", PROJECT, "--env-file", str(self._settings)]
        return [*self.command, *named, "--file", str(ROOT / "docker-compose.yml"), *arguments]

    def _environment(self) -> dict[str, str]:
        """Return the environment without what would overrule the settings."""
        ours = {"METERING_", "CLICKHOUSE_", "KAFKA_", "GRAFANA_"}
        return {n: v for n, v in self.environment.items() if not n.startswith(tuple(ours))}

    def up(self, *arguments: str) -> float:
        """Bring it up and wait until every container is healthy; how long that took, in seconds. Raises CommandError."""
        began_s = time.monotonic()
        self.compose(
            "up", "--detach", "--no-build", "--wait", "--wait-timeout", f"{UP_LIMIT_S:.0f}", *arguments
        )
        return time.monotonic() - began_s

    def down(self) -> None:
        """Take it down with all of its data. Raises CommandError."""
        profiles = ["--profile", "observability", "--profile", "cli"]
        self.compose(*profiles, "down", "--volumes", "--remove-orphans", "--timeout", "30")

    def containers(self, service: str | None = None) -> list[Container]:
        """Return the containers of a service, or all; those of commands that ended are among them."""
        named = [service] if service else []
        ids = self.compose("ps", "--all", "--quiet", *named).split()
        if not ids:
            return []
        return [_container(each) for each in json.loads(run(["docker", "inspect", *ids], self.environment))]

    def logs(self, service: str) -> str:
        """Return all that a service's containers have said."""
        return self.compose("logs", "--no-color", "--no-log-prefix", service)

    def kill(self, service: str) -> Container:
        """Kill the first container of a service as a crash would, and return it as it was.

        `docker kill` would be taken for an operator's will: the engine would not start it again. So its first process
        is killed from a container that sees the machine's processes.
        """
        victim = self.containers(service)[0]
        run(
            [
                *("docker", "run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "python"),
                *(PRODUCT, "-c", _KILL, str(victim.pid)),
            ],
            self.environment,
        )
        return victim

    def until_started_again(self, victim: Container) -> None:
        """Return once the engine has started a killed container again and finds it healthy. Raises AssertionError."""

        def is_back() -> bool:
            now = {each.name: each for each in self.containers()}[victim.name]
            return now.started != victim.started and now.health == "healthy"

        eventually(is_back, f"{victim.name} is healthy again", KILL_LIMIT_S)

    def until_all_answers(self) -> None:
        """Return once every part of the product is ready, as the server finds. Raises AssertionError."""
        eventually(self.answers, "every part is ready", KILL_LIMIT_S)

    def answers(self) -> bool:
        """Return whether the server says that every part is ready."""
        try:
            return (
                httpx2.get(f"{self.url}/healthz", trust_env=False, timeout=5).status_code == httpx2.codes.OK
            )
        except httpx2.HTTPError:
            return False


def eventually(holds: Callable[[], bool], what: str, limit_s: float) -> None:
    """Return as soon as something holds. Raises AssertionError where it does not within the limit."""
    until_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < until_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.2)


def _secrets() -> list[str]:
    """Return what deploy/example.env asks to be filled in."""
    return re.findall(r"^([A-Z_]+)=$", (DEPLOY / "example.env").read_text(encoding="utf-8"), re.MULTILINE)


def _container(said: dict[str, Any]) -> Container:
    state = said["State"]
    return Container(
        said["Name"].removeprefix("/"),
        state["Pid"],
        state["StartedAt"],
        said["RestartCount"],
        state.get("Health", {}).get("Status", ""),
        state["ExitCode"],
        state["Running"],
    )

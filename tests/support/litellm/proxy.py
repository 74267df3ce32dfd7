"""The real LiteLLM proxy as a process, with some workers, before a provider that is a process too.

Owns: its configuration, starting and killing it. Called by: the tests here.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ports
from tests.support.gateway.platform import Platform, eventually, is_healthy
from tests.support.gateway.provider import ROOT, provider

START_LIMIT_S = 300.0
MASTER_KEY = "sk-" + secrets.token_hex(32)
"""LiteLLM does not start without one, though only this product's keys are let in."""


def litellm_home() -> Path:
    """Return the environment that has LiteLLM; the test that asks is skipped where there is none."""
    home = Path(os.environ.get("METERING_TEST_LITELLM", ROOT / ".venv" / "litellm"))
    if not (home / "bin" / "litellm").exists():
        pytest.skip(f"LiteLLM is not in {home}: `make litellm` puts it there")
    return home


def configuration(upstream: str) -> dict[str, Any]:
    """Return the proxy's configuration: the models, what they fall back on, and the two lines that meter it."""

    def deployment(name: str, manner: str, **info: str) -> dict[str, Any]:
        where: dict[str, Any] = {"model": "openai/anything", "api_base": f"{upstream}/{manner}/v1"}
        # Of itself, the client below it asks a broken provider three times, and waits between.
        where |= {"api_key": "none", "max_retries": 0}
        return {"model_name": name, "litellm_params": where, "model_info": info}

    return {
        "model_list": [
            deployment("krutrim-2", "good", metering_provider="krutrim"),
            deployment("krutrim-2-e2e", "good", metering_model="krutrim-2", metering_provider="e2e"),
            deployment("slow", "slow", metering_model="krutrim-2", metering_provider="krutrim"),
            deployment("breaks", "breaks", metering_model="krutrim-2", metering_provider="krutrim"),
            deployment("sarvam-m", "broken", metering_provider="sarvam"),
            deployment("falls", "broken", metering_model="sarvam-m", metering_provider="sarvam"),
        ],
        "router_settings": {
            "num_retries": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"falls": ["krutrim-2-e2e"]}],
        },
        "litellm_settings": {"callbacks": ["pipeline.gateway.litellm.metering"], "num_retries": 0},
        "general_settings": {"custom_auth": "pipeline.gateway.litellm.custom_auth"},
    }


@dataclass
class Proxy:
    """A LiteLLM proxy. Its workers are processes below `process`."""

    home: Path
    port: int
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, workers: int) -> None:
        """Start it and wait until it answers."""
        command = [str(litellm_home() / "bin" / "litellm"), "--config", str(self.home / "litellm.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--num_workers", str(workers)]
        if workers > 1:
            # Its workers are forks of a process that has imported LiteLLM, which takes half a minute of CPU: so one that is
            # killed is replaced at once. Those of uvicorn, which is the default, import it themselves.
            command += ["--run_gunicorn"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.home, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            eventually(lambda: self._is_up(workers), START_LIMIT_S)
        except AssertionError:
            pytest.fail(self.words())

    def _is_up(self, workers: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.words()
        return len(self.workers()) == workers and is_healthy(f"{self.url}/health/liveliness")

    def workers(self) -> list[int]:
        """Return the process ids of the workers that have a spool open, which only they have."""
        assert self.process is not None
        pids = [self.process.pid, *_descendants(self.process.pid)]
        return sorted(pid for pid in pids if "/spool/worker-" in " ".join(_open_files(pid)))

    def kill_worker(self) -> None:
        """Kill a worker as a crash would; its supervisor starts another one."""
        os.kill(self.workers()[0], signal.SIGKILL)

    def kill(self) -> None:
        """Kill it with all its workers."""
        assert self.process is not None
        # A supervisor that still runs would start another worker in the place of one that is killed here.
        os.kill(self.process.pid, signal.SIGSTOP)
        for pid in [*_descendants(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop it as an operator would."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def words(self) -> str:
        """Return the last of what it said."""
        return self.log.read_text(errors="replace")[-6000:]


def _descendants(pid: int) -> list[int]:
    """Return the process ids of a process's children, and of theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [found for child in map(int, children) for found in (child, *_descendants(child))]


def _open_files(pid: int) -> list[str]:
    try:
        return [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except FileNotFoundError:
        return []


@contextmanager
def proxy_before(platform: Platform, workers: int) -> Iterator[Proxy]:
    """Run the provider and the proxy before a product, whose `url` is the proxy's from then on."""
    with provider(platform.product.home) as upstream:
        yield from _proxy_before(platform, workers, upstream)


def _proxy_before(platform: Platform, workers: int, upstream: str) -> Iterator[Proxy]:
    home = platform.product.home
    (home / "litellm.yaml").write_text(yaml.safe_dump(configuration(upstream)))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "METERING_KAFKA_URL": platform.product.broker.url,
        "METERING_NODE": "litellm",
        "METERING_SPOOL_DIR": str(home / "spool"),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        # Nothing is fetched from elsewhere when it starts.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    proxy = Proxy(home, ports.free(), home / "litellm.log", environment)
    try:
        proxy.start(workers)
        platform.url = proxy.url
        yield proxy
    finally:
        if proxy.process is not None and proxy.process.poll() is None:
            proxy.stop()

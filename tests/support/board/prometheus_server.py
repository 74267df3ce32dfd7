"""A real Prometheus that scrapes a product which runs here, with the deployment's own intervals and rules.

Owns: its configuration, made from deploy/prometheus/prometheus.yml, its process, and how it is asked.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.support import ports
from tests.support.deploy import DEPLOY, read_yaml

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and its values by time. A gap has no point."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PrometheusServer:
    """A running Prometheus; `scrape_s` is how often it asks the product."""

    url: str
    scrape_s: int

    def instant(self, expression: str, at_s: float) -> list[Series]:
        """Return what an expression is at a time."""
        found = self._ask("query", query=expression, time=f"{at_s:.3f}")
        return [_series(each["metric"], [each["value"]]) for each in found]

    def range(self, expression: str, start_s: float, end_s: float, step_s: int) -> list[Series]:
        """Return what an expression was between two times."""
        times = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": str(step_s)}
        found = self._ask("query_range", query=expression, **times)
        return [_series(each["metric"], each["values"]) for each in found]

    def _ask(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        answer = httpx2.post(f"{self.url}/api/v1/{path}", data=parameters, trust_env=False, timeout=30)
        said = answer.json()
        assert answer.status_code == 200 and said["status"] == "success", f"{parameters}: {answer.text}"
        assert "warnings" not in said, f"{parameters}: {said['warnings']}"
        result: list[dict[str, Any]] = said["data"]["result"]
        return result


def _series(labels: Mapping[str, str], values: list[Any]) -> Series:
    points = ((float(at), float(value)) for at, value in values)
    return Series(labels, tuple((at, value) for at, value in points if math.isfinite(value)))


@contextmanager
def running_prometheus(
    program: str,
    home: Path,
    targets: Mapping[str, Sequence[str]],
    *,
    rules: Sequence[Path] | None = None,
    interval: str | None = None,
) -> Iterator[PrometheusServer]:
    """Run a Prometheus that scrapes each job's targets, `host:port`. Jobs of the deployment without one are left out.

    Where `rules` or an `interval` to scrape and evaluate in are given, they stand for the deployment's.
    """
    deployed = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
    files = rules or [DEPLOY / "prometheus" / name for name in deployed["rule_files"]]
    jobs = [{"job_name": job, "static_configs": [{"targets": list(at)}]} for job, at in targets.items()]
    # What gateways are scraped as, a notary apart and the brokers' machines is for whoever runs them to say.
    beside = {"gateway", "notary", "kafka-node"}
    assert set(targets) <= {job["job_name"] for job in deployed["scrape_configs"]} | beside
    often = deployed["global"] if interval is None else dict.fromkeys(deployed["global"], interval)
    config = {"global": often, "rule_files": [str(file) for file in files], "scrape_configs": jobs}
    (home / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{ports.free()}"
    command = [program, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/series"]
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        _until_ready(f"http://{address}/-/ready", process, home / "prometheus.log")
        scrape = often["scrape_interval"]
        yield PrometheusServer(f"http://{address}", int(scrape.removesuffix("s")))
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            if httpx2.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"Prometheus is not ready:\n{log.read_text(errors='replace')[-3000:]}")
